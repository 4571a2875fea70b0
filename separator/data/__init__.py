"""Data sets of mixtures for training, validation and tests."""

from separator.data.corpora import FolderCorpus
from separator.data.groups import MixtureData
from separator.data.layouts.dns import DnsData
from separator.data.layouts.folder import FolderData
from separator.data.layouts.generated import GeneratedData
from separator.data.layouts.librimix import LibriMixData
from separator.data.layouts.librispeech import LibriSpeechData
from separator.data.layouts.manifest import ManifestData
from separator.data.layouts.mixture_list import MixtureListData
from separator.data.layouts.musdb import MusdbData
from separator.data.layouts.wsj0_mix import Wsj0MixData
from separator.data.loading import check_shares, load_batches
from separator.data.mixing import FixedMixtures, Mixtures
from separator.data.mixing_settings import Mixing
from separator.data.mixture import Mixture, collate
from separator.data.noises import FolderNoise, GeneratedNoise
from separator.data.ready_made import Excerpts, MixtureSet
from separator.data.rooms import Rooms
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
