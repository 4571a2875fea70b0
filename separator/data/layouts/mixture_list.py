"""A list of ready-made mixtures."""

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
    """`data=mixture_list data.train=LIST.csv data.valid=LIST.csv`: mixtures in a CSV or JSONL list.

    Attributes:
        train: list of training mixtures, see `separator.data.lists.mixture_list`. Entries with a split other than
            "train" are left out.
        valid: list of mixtures for validation (split "valid") and tests (split "test"). It can be the same list.
        adds_up: whether mixtures must be the sum of their sources and noise (default: true). False also accepts
            mixtures with other noise or another level. The sources are then scaled to their level in the mixture.
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
