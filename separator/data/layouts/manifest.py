"""A list of recordings and their speakers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from separator.data.corpora import (
    Splits,
    check_splits,
    split_randomly,
)
from separator.data.groups import RandomSplitVoices
from separator.data.lists import voices_manifest


@dataclass(frozen=True, kw_only=True)
class ManifestData(RandomSplitVoices):
    """`data=manifest data.path=LIST`: a CSV or JSONL list with the fields path, speaker and (optional) split.

    Attributes:
        path: the list.
    """

    path: str

    @property
    def location(self) -> str:
        """The list."""
        return self.path

    def find(self) -> Splits:
        """Split -> speaker -> files. Without splits in the list, the speakers are split at random by `split_seed`."""
        path = Path(self.path)
        splits = voices_manifest(path)
        if splits.keys() == {""}:
            splits = split_randomly(splits[""], path, self.split_seed, self.valid_fraction, self.test_fraction)
        check_splits(splits, path)
        return splits
