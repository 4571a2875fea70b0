"""Base classes of the `data` groups of the configuration. Each corpus has a file in `layouts/`."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch.utils.data import Dataset

from separator.data.corpora import (
    SPLIT_SEEDS,
    Corpus,
    FolderCorpus,
    Splits,
)
from separator.data.lists import mixture_list
from separator.data.mixing import FixedMixtures, Mixtures
from separator.data.mixing_settings import Mixing
from separator.data.noises import NoiseData
from separator.data.ready_made import Excerpts, MixtureSet, Row
from separator.data.rooms import Rooms
from separator.data.voices import GeneratedCorpus
from separator.errors import ConfigError, DataError, check_number, check_whole


@dataclass(frozen=True, kw_only=True)
class MixtureData(ABC):
    """Base class of a `data` group: endless training mixtures, and fixed mixtures for validation and tests.

    Attributes:
        valid_list: list of validation mixtures (see `separator.data.lists.mixture_list`). null (default) uses the
            group's own validation mixtures.
    """

    valid_list: str | None = None

    @property
    def channels(self) -> int | None:
        """Number of channels of every mixture. None for mono without a channel axis, `[time]`."""
        return None

    @abstractmethod
    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """Endless training mixtures. An example depends only on the seed and its index."""

    def validation(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """A fixed set of mixtures of speakers that are not in the training set."""
        if self.valid_list is not None:
            path = Path(self.valid_list)
            if not path.is_file():
                raise DataError(
                    f"data.valid_list={path}: no such file; give a list of mixtures, or set data.valid_list=null to "
                    "validate on mixtures of speakers outside the training set"
                )
            return MixtureSet(mixture_list(path, sources), sample_rate, self.channels)
        return self._fixed("valid", sample_rate, sources, seed)

    def testing(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """A fixed set of mixtures of speakers that are in neither the training nor the validation set."""
        return self._fixed("test", sample_rate, sources, seed)

    @abstractmethod
    def _fixed(self, split: str, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset: ...


@dataclass(frozen=True, kw_only=True)
class VoiceData(MixtureData):
    """Mixtures drawn from single voices.

    Attributes:
        mixing: how voices become a mixture.
        noise: background noise. null (default) for none.
        rooms: room simulation. null (default) for no reverberation.
        valid_seconds: length of a validation or test mixture in seconds (default: 6).
        valid_mixtures: number of validation mixtures, and of test mixtures (default: 60). They are always the same.
        generated_share: share of the training mixtures made from generated voices (0 to 1, default: 0).
        generated_speakers: number of generated speakers (default: 200).
    """

    mixing: Mixing = field(default_factory=Mixing)
    noise: NoiseData | None = None
    rooms: Rooms | None = None
    valid_seconds: float = 6.0
    valid_mixtures: int = 60
    generated_share: float = 0.0
    generated_speakers: int = 200

    def __post_init__(self) -> None:
        check_number("data.valid_seconds", self.valid_seconds, 0.01)
        check_whole("data.valid_mixtures", self.valid_mixtures)
        check_number("data.generated_share", self.generated_share, 0, 1)
        check_whole("data.generated_speakers", self.generated_speakers)

    @abstractmethod
    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The voices of a split."""

    @property
    def more_speakers_hint(self) -> str:
        """How to get more speakers in a split, for error messages."""
        return "use a corpus with more speakers"

    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Mixtures:
        """Endless training mixtures."""
        corpora = [(self.corpus("train", sample_rate, seed), 1.0 - self.generated_share)]
        if self.generated_share:
            corpora.append((GeneratedCorpus(self.generated_speakers, 4, 5.0, sample_rate, seed), self.generated_share))
        return self._mixtures("train", corpora, self.mixing, sample_rate, sources, seed)

    def _fixed(self, split: str, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        corpora = [(self.corpus(split, sample_rate, seed), 1.0)]
        mixing = self.mixing.for_validation(self.valid_seconds)
        mixtures = self._mixtures(split, corpora, mixing, sample_rate, sources, seed)
        return FixedMixtures(mixtures, self.valid_mixtures)

    def _mixtures(
        self,
        split: str,
        corpora: list[tuple[Corpus, float]],
        mixing: Mixing,
        sample_rate: int,
        sources: Sequence[str],
        seed: int,
    ) -> Mixtures:
        if len(sources) == 1 and self.noise is None and self.rooms is None:
            raise ConfigError(
                "one source without noise or rooms is not a mixture: separate more sources (model.num_sources=2), or "
                "add something to remove (data/noise=generated, data/rooms=simulated)"
            )
        voices = len(sources) - (self.noise is not None and self.noise.is_source)
        wanted = voices if mixing.active is None else len(mixing.active)
        found = min(len(corpus.speakers) for corpus, _ in corpora)
        if found < wanted:
            raise DataError(
                f"mixtures of {wanted} voices need {wanted} speakers, but {split} has {found}; "
                f"{self.more_speakers_hint}"
            )
        noise = None if self.noise is None else self.noise.background(split, sample_rate, seed)
        rooms = None if self.rooms is None else self.rooms.bank(split, voices, sample_rate)
        return Mixtures(corpora, len(sources), mixing, seed + SPLIT_SEEDS[split], noise, rooms)


@dataclass(frozen=True, kw_only=True)
class FileVoices(VoiceData):
    """Mixtures of voices from files.

    Attributes:
        cache_megabytes: cache for decoded audio in each worker, in MiB (default: 1000).
    """

    cache_megabytes: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole("data.cache_megabytes", self.cache_megabytes, least=0)

    @abstractmethod
    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""

    def corpus(self, split: str, sample_rate: int, seed: int) -> Corpus:
        """The voices of a split."""
        return FolderCorpus(self.speakers(split), sample_rate, self.cache_megabytes)


@dataclass(frozen=True, kw_only=True)
class RandomSplitVoices(FileVoices):
    """Mixtures of voices from files. The speakers are split at random unless the corpus gives the splits.

    Attributes:
        valid_fraction: share of the speakers for validation (0 to 0.9, default: 0.1).
        test_fraction: share of the speakers for tests (0 to 0.9, default: 0.1).
        split_seed: seed of the random split (default: 0).
    """

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    more_speakers_hint = "raise data.valid_fraction, use more speakers, or give the splits yourself"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("valid_fraction", "test_fraction"):
            check_number(f"data.{name}", getattr(self, name), 0, 0.9)

    @abstractmethod
    def find(self) -> Splits:
        """Split -> speaker -> files."""

    @functools.cached_property
    def _splits(self) -> Splits:  # cached: to search a large corpus takes time
        return self.find()

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""
        if split not in self._splits:
            raise DataError(f"{self.location}: has no speakers for {split}, only for {', '.join(self._splits)}")
        return self._splits[split]

    @property
    @abstractmethod
    def location(self) -> str:
        """Where the files are, for error messages."""


@dataclass(frozen=True, kw_only=True)
class SetData(MixtureData):
    """Ready-made mixtures from files.

    Attributes:
        segment_seconds: length of a training example in seconds (default: 3).
        leave_out_short: whether to leave out mixtures that are shorter. False pads them with silence (default: true).
        valid_limit: number of mixtures to validate on, from the first. null (default) for all.
        channels: null (default) mixes every file down to mono. 2 for stereo models.
        remix_share: share of the training examples whose sources come from different mixtures (0 to 1, default: 0).
    """

    segment_seconds: float = 3.0
    leave_out_short: bool = True
    valid_limit: int | None = None
    channels: int | None = None
    remix_share: float = 0.0

    def __post_init__(self) -> None:
        check_number("data.segment_seconds", self.segment_seconds, 0.01)
        check_number("data.remix_share", self.remix_share, 0, 1)
        for name in ("valid_limit", "channels"):
            if getattr(self, name) is not None:
                check_whole(f"data.{name}", getattr(self, name))

    @abstractmethod
    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""

    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Excerpts:
        """Endless excerpts of the training mixtures."""
        return Excerpts(
            self._set("train", sample_rate, sources), self.segment_seconds, seed, self.leave_out_short, self.remix_share
        )

    def _fixed(self, split: str, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        return self._set(split, sample_rate, sources, self.valid_limit if split == "valid" else None)

    def _set(self, split: str, sample_rate: int, sources: Sequence[str], limit: int | None = None) -> MixtureSet:
        rows = self.rows(split, sources)
        if not rows:
            raise DataError(f"the data set has no mixtures for {split}")
        if len(rows[0].sources) != len(sources):
            raise ConfigError(
                f"the mixtures have {len(rows[0].sources)} sources, but the model separates {len(sources)} "
                f"({', '.join(sources)}): set model.num_sources={len(rows[0].sources)}"
            )
        return MixtureSet(rows[:limit], sample_rate, self.channels)
