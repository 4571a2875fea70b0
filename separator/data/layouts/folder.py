"""A folder of recordings for each speaker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from separator.data.corpora import (
    Splits,
    split_speakers,
)
from separator.data.groups import RandomSplitVoices


@dataclass(frozen=True, kw_only=True)
class FolderData(RandomSplitVoices):
    """`data=folder data.root=DIR`: one folder of recordings for each speaker.

    These folders can also be in the folders `train`, `valid` and (optional) `test`.

    Attributes:
        root: the folder.
    """

    root: str

    @property
    def location(self) -> str:
        """The folder."""
        return self.root

    def find(self) -> Splits:
        """Split -> speaker -> files."""
        return split_speakers(Path(self.root), self.split_seed, self.valid_fraction, self.test_fraction)
