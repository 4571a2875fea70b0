"""The `data` groups of the configuration: what training and validation mixtures are drawn from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from separator.data.corpora import Corpus, FolderCorpus, split_speakers
from separator.data.mixing import FixedMixtures, MixtureList, Mixtures
from separator.data.voices import GeneratedCorpus
from separator.errors import DataError

# Added to the seed for validation, so that its draws are not those of training.
VALID_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class MixtureData(ABC):
    """How mixtures are drawn, whatever the voices come from. See `separator.data.mixing.Mixtures`.

    Attributes:
        segment_seconds: length of a training mixture.
        level_db: largest level difference between two voices.
        speeds: lowest and highest factor of playing speed, in training only.
        peak_db: lowest and highest peak of a mixture, dB of full scale.
        valid_seconds: length of a validation mixture.
        valid_mixtures: number of validation mixtures, always the same ones.
        valid_list: a CSV list of mixtures (see `MixtureList`) to validate on instead.
    """

    segment_seconds: float = 3.0
    level_db: float = 5.0
    speeds: tuple[float, float] = (1.0, 1.0)
    peak_db: tuple[float, float] = (-20.0, -0.5)
    valid_seconds: float = 6.0
    valid_mixtures: int = 60
    valid_list: str | None = None

    @abstractmethod
    def corpora(self, split: str, sample_rate: int, seed: int) -> list[tuple[Corpus, float]]:
        """The voices of a split ("train" or "valid"), with the share of the mixtures each provides."""

    def training(self, sample_rate: int, num_sources: int, seed: int) -> Mixtures:
        """Endless training mixtures."""
        corpora = self.corpora("train", sample_rate, seed)
        return Mixtures(corpora, num_sources, self.segment_seconds, self.level_db, self.speeds, self.peak_db, seed)

    def validation(self, sample_rate: int, num_sources: int, seed: int) -> Dataset:
        """A fixed set of mixtures of speakers that training does not hear."""
        if self.valid_list is not None:
            listed = MixtureList(self.valid_list, sample_rate)
            if listed.num_sources != num_sources:
                raise DataError(
                    f"{self.valid_list}: mixes {listed.num_sources} sources, the model separates {num_sources}"
                )
            return listed
        corpora = self.corpora("valid", sample_rate, seed)
        mixtures = Mixtures(
            corpora, num_sources, self.valid_seconds, self.level_db, (1.0, 1.0), self.peak_db, seed + VALID_SEED
        )
        return FixedMixtures(mixtures, self.valid_mixtures)


@dataclass(frozen=True, kw_only=True)
class GeneratedData(MixtureData):
    """`data=generated`: voices that the project makes itself.

    Attributes:
        num_speakers: voices in training; a quarter as many others, at least 2, in validation.
        recordings_per_speaker: utterances of each.
        recording_seconds: length of an utterance.
    """

    num_speakers: int = 300
    recordings_per_speaker: int = 4
    recording_seconds: float = 5.0

    def corpora(self, split: str, sample_rate: int, seed: int) -> list[tuple[Corpus, float]]:
        """Voices that are others for every seed and split."""
        num_speakers = self.num_speakers if split == "train" else max(2, self.num_speakers // 4)
        seed = seed if split == "train" else seed + VALID_SEED
        corpus = GeneratedCorpus(num_speakers, self.recordings_per_speaker, self.recording_seconds, sample_rate, seed)
        return [(corpus, 1.0)]


@dataclass(frozen=True, kw_only=True)
class FolderData(MixtureData):
    """`data=folder data.root=DIR`: one folder of recordings for each speaker, or `train`, `valid` with such folders.

    Attributes:
        root: the folder.
        valid_fraction: share of the speakers to validate on where `root` has no splits.
        test_fraction: share to keep away from training altogether.
        split_seed: decides which speakers those are.
        cache_megabytes: decoded audio kept in memory by each worker.
        generated_share: share of the training mixtures to make from generated voices instead.
        generated_speakers: how many of those there are.
    """

    root: str
    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    cache_megabytes: int = 1000
    generated_share: float = 0.0
    generated_speakers: int = 200

    def corpora(self, split: str, sample_rate: int, seed: int) -> list[tuple[Corpus, float]]:
        """The folder's voices of a split; in training perhaps generated ones too."""
        splits = split_speakers(Path(self.root), self.split_seed, self.valid_fraction, self.test_fraction)
        folder = FolderCorpus(splits[split], sample_rate, self.cache_megabytes)
        if split != "train" or not self.generated_share:
            return [(folder, 1.0)]
        generated = GeneratedCorpus(self.generated_speakers, 4, 5.0, sample_rate, seed)
        return [(folder, 1 - self.generated_share), (generated, self.generated_share)]
