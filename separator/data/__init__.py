"""Mixtures to train, choose and test on."""

from separator.data.corpora import FolderCorpus
from separator.data.datasets import FolderData, GeneratedData
from separator.data.mixing import FixedMixtures, Mixture, MixtureList, Mixtures, collate
from separator.data.voices import GeneratedCorpus, Voice

__all__ = [
    "FixedMixtures",
    "FolderCorpus",
    "FolderData",
    "GeneratedCorpus",
    "GeneratedData",
    "Mixture",
    "MixtureList",
    "Mixtures",
    "Voice",
    "collate",
]
