"""LibriMix (Cosentino et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from separator.data.groups import SetData
from separator.data.lists import read_number, read_records
from separator.data.ready_made import Part, Row
from separator.errors import DataError, choose

# LibriMix: task -> (name of the mixtures, whether its sources are all that is in them)
LIBRIMIX_TASKS = {
    "sep_clean": ("mix_clean", True),
    "sep_noisy": ("mix_both", False),
    "enh_single": ("mix_single", False),
    "enh_both": ("mix_both", False),
}
LIBRIMIX_RATES = {"wav8k": 8000, "wav16k": 16000}


def librimix(root: Path, split: str, task: str, rate: str, mode: str, num_sources: int) -> list[Row]:
    """Rows of LibriMix (Cosentino et al. 2020) from its metadata.

    That is `root/wav8k/min/metadata/mixture_train-360_mix_clean.csv` and the like.

    Args:
        root: the folder Libri2Mix or Libri3Mix.
        split: "train-100", "train-360", "dev" or "test".
        task: "sep_clean", "sep_noisy" (noise in the mixture), "enh_single" (one voice and noise) or "enh_both"
            (all voices together, and noise).
        rate: "wav8k" or "wav16k".
        mode: "min" or "max".
        num_sources: voices in a mixture.

    Raises:
        DataError: if the metadata or a column is missing.
    """
    mixture_name, adds_up = choose("data.task", task, LIBRIMIX_TASKS)
    folder = root / rate / mode
    path = folder / "metadata" / f"mixture_{split}_{mixture_name}.csv"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; LibriMix is made by https://github.com/JorisCos/LibriMix, and data.root is the "
            f"folder Libri{num_sources}Mix of what it makes"
        )
    numbers = (1,) if task == "enh_single" else range(1, num_sources + 1)
    columns = ["mixture_ID", "mixture_path", *(f"source_{number}_path" for number in numbers), "length"]
    rows = []
    for number, record in enumerate(read_records(path, columns), 2):
        # The paths are those of the machine that made the set.
        parts = [Part(_moved(record[f"source_{source}_path"], folder)) for source in numbers]
        sources = (tuple(parts),) if task == "enh_both" else tuple((part,) for part in parts)
        mixture = Part(_moved(record["mixture_path"], folder))
        where = f"{path} row {number}"
        # Said in samples; to look into the headers of 50,000 files takes minutes.
        seconds = (read_number(where, record, "length", least=1) or 0) / LIBRIMIX_RATES[rate]
        rows.append(Row(record["mixture_ID"], where, sources, mixture, seconds, adds_up))
    return rows


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
        choose("data.rate", self.rate, LIBRIMIX_RATES)
        choose("data.mode", self.mode, dict.fromkeys(("min", "max")))

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        name = {"train": self.train, "valid": "dev", "test": "test"}[split]
        return librimix(Path(self.root), name, self.task, self.rate, self.mode, len(sources))


def _moved(path: str, folder: Path) -> Path:
    """A path that ends below some `wav8k/min/`, below `folder` instead: the last three parts are split/kind/name."""
    return folder.joinpath(*PurePosixPath(path.replace("\\", "/")).parts[-3:])
