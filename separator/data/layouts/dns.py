"""The DNS challenge (Reddy et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from separator.data.corpora import (
    Splits,
    split_files,
)
from separator.data.groups import DealtVoices


@dataclass(frozen=True, kw_only=True)
class DnsData(DealtVoices):
    """`data=dns data.root=datasets`: clean speech and noise, as the DNS challenge has them (Reddy et al. 2020).

    Who speaks plays no part: a mixture is one voice and noise, and the fractions are those of the files.

    Attributes:
        root: the folder with the folders of speech and noise in it.
        clean: the folder of speech.
    """

    root: str
    clean: str = "clean"

    @property
    def place(self) -> str:
        """The folder of speech."""
        return str(Path(self.root, self.clean))

    def find(self) -> Splits:
        """The files of each split, as those of one speaker."""
        source = "the DNS challenge's recordings are at https://github.com/microsoft/DNS-Challenge"
        files = split_files(Path(self.place), self.split_seed, self.valid_fraction, self.test_fraction, source)
        return {split: {"speech": paths} for split, paths in files.items()}
