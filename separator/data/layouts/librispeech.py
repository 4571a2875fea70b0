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
    """Find the files of LibriSpeech, `root/SUBSET/SPEAKER/CHAPTER/*.flac`. Return speaker -> files.

    Raises:
        DataError: if the folder of a subset is missing.
    """
    speakers: dict[str, list[Path]] = {}
    for subset in subsets:
        folder = root / subset
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder; download {subset} from https://www.openslr.org/12, and set data.root to "
                "the unpacked folder LibriSpeech"
            )
        for name, paths in find_speakers(folder).items():
            speakers.setdefault(name, []).extend(paths)
    return speakers


@dataclass(frozen=True, kw_only=True)
class LibriSpeechData(FileVoices):
    """`data=librispeech data.root=LibriSpeech`: unpacked subsets of LibriSpeech (Panayotov et al. 2015).

    Attributes:
        root: the folder that contains train-clean-100 and so on.
        train: subsets for training (default: train-clean-100).
        valid: subsets for validation (default: dev-clean).
        test: subsets for tests (default: test-clean).
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
