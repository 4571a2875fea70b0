"""Mixtures to train, choose and test on."""

from separator.data.corpora import FolderCorpus
from separator.data.datasets import DnsData, FolderData, GeneratedData, LibriSpeechData, ManifestData, MixtureData
from separator.data.loading import check_shares, load_batches
from separator.data.mixing import FixedMixtures, Mixtures
from separator.data.mixing_settings import Mixing
from separator.data.mixture import Mixture, collate
from separator.data.noises import FolderNoise, GeneratedNoise
from separator.data.rooms import Rooms
from separator.data.set_data import LibriMixData, MixtureListData, MusdbData, Wsj0MixData
from separator.data.sets import Excerpts, MixtureSet
from separator.data.voices import GeneratedCorpus, Voice

__all__ = [
    "DnsData",
    "Excerpts",
    "FixedMixtures",
    "FolderCorpus",
    "FolderData",
    "FolderNoise",
    "GeneratedCorpus",
    "GeneratedData",
    "GeneratedNoise",
    "LibriMixData",
    "LibriSpeechData",
    "ManifestData",
    "Mixing",
    "Mixture",
    "MixtureData",
    "MixtureListData",
    "MixtureSet",
    "Mixtures",
    "MusdbData",
    "Rooms",
    "Voice",
    "Wsj0MixData",
    "check_shares",
    "collate",
    "load_batches",
]
