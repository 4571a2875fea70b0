"""The `data` groups of the configuration for mixtures that are already made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.utils.data import Dataset

from separator.data import layouts
from separator.data.datasets import MixtureData
from separator.data.lists import mixture_list
from separator.data.sets import Excerpts, MixtureSet, Row
from separator.errors import ConfigError, DataError, check_flag, check_number, check_whole, choose


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


@dataclass(frozen=True, kw_only=True)
class LibriMixData(SetData):
    """`data=librimix data.root=Libri2Mix`: what the LibriMix scripts make (Cosentino et al. 2020).

    Attributes:
        root: the folder Libri2Mix or Libri3Mix.
        task: "sep_clean", "sep_noisy", "enh_single" or "enh_both".
        mode: "min" or "max".
        rate: "wav8k" or "wav16k".
        train: "train-100" or "train-360".
    """

    root: str
    task: str = "sep_clean"
    mode: str = "min"
    rate: str = "wav8k"
    train: str = "train-360"

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("data.rate", self.rate, layouts.LIBRIMIX_RATES)
        choose("data.mode", self.mode, dict.fromkeys(("min", "max")))

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        name = {"train": self.train, "valid": "dev", "test": "test"}[split]
        return layouts.librimix(Path(self.root), name, self.task, self.rate, self.mode, len(sources))


@dataclass(frozen=True, kw_only=True)
class Wsj0MixData(SetData):
    """`data=wsj0_mix data.root=2speakers/wav8k/min`: WSJ0-mix, or WHAM! by its folders' names.

    Attributes:
        root: the folder with tr, cv and tt in it.
        mixture: folder of the mixtures: "mix", or WHAM!'s "mix_clean", "mix_both", "mix_single".
    """

    root: str
    mixture: str = "mix"

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        return layouts.wsj0_mix(Path(self.root), split, self.mixture, len(sources))


@dataclass(frozen=True, kw_only=True)
class MusdbData(SetData):
    """`data=musdb data.root=musdb18hq`: songs and their stems.

    Attributes:
        root: the folder with train and test in it.
    """

    root: str

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The songs of a split; a source that is no stem's name is all that is left."""
        return layouts.musdb(Path(self.root), split, sources)


@dataclass(frozen=True, kw_only=True)
class MixtureListData(SetData):
    """`data=mixture_list data.train=LIST.csv data.valid=LIST.csv`: mixtures that a CSV or JSONL list names.

    Attributes:
        train: a list, see `separator.data.lists.mixture_list`; of the entries with a split, those of "train".
        valid: likewise, for validation ("valid") and tests ("test"); may be the same list.
        adds_up: whether mixtures are the sum of their sources and noise. False also takes noisy ones, and those that
            are louder or softer, in which the sources are scaled to their level.
    """

    train: str
    valid: str
    adds_up: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag("data.adds_up", self.adds_up)

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The list's mixtures."""
        return mixture_list(Path(self.train if split == "train" else self.valid), sources, split, self.adds_up)
