"""The DNS challenge (Reddy et al. 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from separator.data.corpora import (
    Splits,
    split_files,
)
from separator.data.groups import RandomSplitVoices


@dataclass(frozen=True, kw_only=True)
class DnsData(RandomSplitVoices):
    """`data=dns data.root=datasets`: clean speech and noise of the DNS challenge (Reddy et al. 2020).

    A mixture is one voice and noise. Speakers are ignored: `valid_fraction` and `test_fraction` are shares of the
    files.

    Attributes:
        root: the folder that contains the folders of speech and noise.
        clean: name of the folder of speech (default: clean).
    """

    root: str
    clean: str = "clean"

    @property
    def location(self) -> str:
        """The folder of speech."""
        return str(Path(self.root, self.clean))

    def find(self) -> Splits:
        """The files of each split, as one speaker."""
        source = "the DNS challenge's recordings are at https://github.com/microsoft/DNS-Challenge"
        files = split_files(Path(self.location), self.split_seed, self.valid_fraction, self.test_fraction, source)
        return {split: {"speech": paths} for split, paths in files.items()}
