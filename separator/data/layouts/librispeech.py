"""LibriSpeech (Panayotov et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from separator.data.corpora import (
    SPLITS,
    find_speakers,
)
from separator.data.groups import FileVoices
from separator.errors import DataError, check_names


def librispeech(root: Path, subsets: Sequence[str]) -> dict[str, list[Path]]:
    """Speaker -> files of LibriSpeech: `root/SUBSET/SPEAKER/CHAPTER/*.flac`.

    Raises:
        DataError: if a subset is not there.
    """
    speakers: dict[str, list[Path]] = {}
    for subset in subsets:
        folder = root / subset
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; LibriSpeech's {subset} is at https://www.openslr.org/12, and data.root is "
                "the folder LibriSpeech of what is unpacked"
            )
        for name, paths in find_speakers(folder).items():
            speakers.setdefault(name, []).extend(paths)
    return speakers


@dataclass(frozen=True, kw_only=True)
class LibriSpeechData(FileVoices):
    """`data=librispeech data.root=LibriSpeech`: its subsets as they are unpacked.

    Attributes:
        root: the folder with train-clean-100 and so on in it.
        train: subsets to train on.
        valid: subsets to validate on.
        test: subsets to test on.
    """

    root: str
    train: Sequence[str] = ("train-clean-100",)
    valid: Sequence[str] = ("dev-clean",)
    test: Sequence[str] = ("test-clean",)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in SPLITS:
            check_names(f"data.{name}", getattr(self, name))

    def speakers(self, split: str) -> dict[str, list[Path]]:
        """Speaker -> files of a split."""
        return librispeech(Path(self.root), getattr(self, split))
