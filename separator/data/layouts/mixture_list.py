"""A list of ready mixtures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from separator.data.groups import SetData
from separator.data.lists import mixture_list
from separator.data.ready_made import Row
from separator.errors import check_flag


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
