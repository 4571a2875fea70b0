"""What the `data` groups of the configuration have in common; each corpus is a file in `layouts/`."""

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
    """What a `data` group is for: training mixtures without end, and fixed ones to validate and to test on.

    Attributes:
        valid_list: a list of mixtures (see `separator.data.lists.mixture_list`) to validate on instead of the group's
            own.
    """

    valid_list: str | None = None

    @property
    def channels(self) -> int | None:
        """Of every mixture; None for mono, `[time]`."""
        return None

    @abstractmethod
    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """Endless training mixtures, an example following from the seed and its index."""

    def validation(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """A fixed set of mixtures of speakers that training does not hear."""
        if self.valid_list is not None:
            path = Path(self.valid_list)
            if not path.is_file():
                raise DataError(
                    f"data.valid_list={path}: no such file; give a list of mixtures, or set data.valid_list=null to "
                    "validate on mixtures of speakers that are kept from training"
                )
            return MixtureSet(mixture_list(path, sources), sample_rate, self.channels)
        return self._fixed("valid", sample_rate, sources, seed)

    def testing(self, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        """Another fixed set, of speakers that neither training nor validation hears."""
        return self._fixed("test", sample_rate, sources, seed)

    @abstractmethod
    def _fixed(self, split: str, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset: ...


@dataclass(frozen=True, kw_only=True)
class VoiceData(MixtureData):
    """Mixtures drawn from single voices.

    Attributes:
        mixing: how they are put together.
        noise: what is behind them; null for nothing.
        rooms: what they stand in; null for no echoes.
        valid_seconds: length of a mixture for validation or tests.
        valid_mixtures: number of those, always the same ones.
        generated_share: share of the training mixtures to make from generated voices instead.
        generated_speakers: how many of those there are.
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
    def more_speakers(self) -> str:
        """How a split gets more of them, for messages."""
        return "use a corpus with more"

    def training(self, sample_rate: int, sources: Sequence[str], seed: int) -> Mixtures:
        """Endless training mixtures."""
        corpora = [(self.corpus("train", sample_rate, seed), 1.0 - self.generated_share)]
        if self.generated_share:
            corpora.append((GeneratedCorpus(self.generated_speakers, 4, 5.0, sample_rate, seed), self.generated_share))
        return self._mixtures("train", corpora, self.mixing, sample_rate, sources, seed)

    def _fixed(self, split: str, sample_rate: int, sources: Sequence[str], seed: int) -> Dataset:
        corpora = [(self.corpus(split, sample_rate, seed), 1.0)]
        mixing = self.mixing.only(self.valid_seconds)
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
                "one voice alone is no mixture: separate more (model.num_sources=2), or add what is to be taken away "
                "(data/noise=generated, data/rooms=simulated)"
            )
        voices = len(sources) - (self.noise is not None and self.noise.is_source)
        wanted = voices if mixing.active is None else len(mixing.active)
        found = min(len(corpus.speakers) for corpus, _ in corpora)
        if found < wanted:
            raise DataError(
                f"mixtures of {wanted} voices need as many speakers, for {split} there are {found}; "
                f"{self.more_speakers}"
            )
        noise = None if self.noise is None else self.noise.background(split, sample_rate, seed)
        rooms = None if self.rooms is None else self.rooms.bank(split, voices, sample_rate)
        return Mixtures(corpora, len(sources), mixing, seed + SPLIT_SEEDS[split], noise, rooms)


@dataclass(frozen=True, kw_only=True)
class FileVoices(VoiceData):
    """Voices from files.

    Attributes:
        cache_megabytes: decoded audio kept in memory by each worker.
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
class DealtVoices(FileVoices):
    """Voices from files that are dealt out to the splits, where they do not lie in splits already.

    Attributes:
        valid_fraction: share of the speakers to validate on.
        test_fraction: share to keep away from training altogether.
        split_seed: decides which speakers those are.
    """

    valid_fraction: float = 0.1
    test_fraction: float = 0.1
    split_seed: int = 0
    more_speakers = "raise data.valid_fraction, use more speakers, or give the splits themselves"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("valid_fraction", "test_fraction"):
            check_number(f"data.{name}", getattr(self, name), 0, 0.9)

    @abstractmethod
    def find(self) -> Splits:
        """Split -> speaker -> files."""

    @functools.cached_property
    def _splits(self) -> Splits:  # a large corpus is not looked through for every split
        return self.find()

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""
        if split not in self._splits:
            raise DataError(f"{self.place}: no speakers are left for {split}, there are {', '.join(self._splits)}")
        return self._splits[split]

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the files are, for messages."""


@dataclass(frozen=True, kw_only=True)
class SetData(MixtureData):
    """Mixtures that are already made.

    Attributes:
        segment_seconds: length of a training example.
        leave_out_short: leaves mixtures out that are shorter, rather than fill them up with silence.
        valid_limit: validate on the first so many; null for all.
        channels: null mixes every file down to mono; 2 for models of stereo.
        remix_share: of the training examples whose sources come from different mixtures.
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
            raise DataError(f"there are no mixtures for {split} in it")
        if len(rows[0].sources) != len(sources):
            raise ConfigError(
                f"the mixtures have {len(rows[0].sources)} sources, the model separates {len(sources)} "
                f"({', '.join(sources)}): set model.num_sources={len(rows[0].sources)}"
            )
        return MixtureSet(rows[:limit], sample_rate, self.channels)
