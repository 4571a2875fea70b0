"""A folder of recordings for each speaker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from separator.data.corpora import (
    Splits,
    split_speakers,
)
from separator.data.groups import DealtVoices


@dataclass(frozen=True, kw_only=True)
class FolderData(DealtVoices):
    """`data=folder data.root=DIR`: one folder of recordings for each speaker, or `train`, `valid` with such folders.

    Attributes:
        root: the folder.
    """

    root: str

    @property
    def place(self) -> str:
        """The folder."""
        return self.root

    def find(self) -> Splits:
        """Split -> speaker -> files."""
        return split_speakers(Path(self.root), self.split_seed, self.valid_fraction, self.test_fraction)
