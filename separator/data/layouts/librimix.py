"""LibriMix (Cosentino et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from separator.data.groups import SetData
from separator.data.lists import read_number, read_records
from separator.data.ready_made import Part, Row
from separator.errors import DataError, choose

# LibriMix: task -> (name of the mixtures, whether the sources add up to the mixture)
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
        num_sources: number of voices in a mixture.

    Raises:
        DataError: if the metadata or a column is missing.
    """
    mixture_name, adds_up = choose("data.task", task, LIBRIMIX_TASKS)
    folder = root / rate / mode
    path = folder / "metadata" / f"mixture_{split}_{mixture_name}.csv"
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; make LibriMix with https://github.com/JorisCos/LibriMix, and set data.root to its "
            f"folder Libri{num_sources}Mix"
        )
    numbers = (1,) if task == "enh_single" else range(1, num_sources + 1)
    columns = ["mixture_ID", "mixture_path", *(f"source_{number}_path" for number in numbers), "length"]
    rows = []
    for number, record in enumerate(read_records(path, columns), 2):
        # The paths in the metadata are those of the machine that made the set.
        parts = [Part(_relocate(record[f"source_{source}_path"], folder)) for source in numbers]
        sources = (tuple(parts),) if task == "enh_both" else tuple((part,) for part in parts)
        mixture = Part(_relocate(record["mixture_path"], folder))
        where = f"{path} row {number}"
        # The metadata has the length in samples. To read the headers of 50,000 files instead takes minutes.
        seconds = (read_number(where, record, "length", least=1) or 0) / LIBRIMIX_RATES[rate]
        rows.append(Row(record["mixture_ID"], where, sources, mixture, seconds, adds_up))
    return rows


@dataclass(frozen=True, kw_only=True)
class LibriMixData(SetData):
    """`data=librimix data.root=Libri2Mix`: output of the LibriMix scripts (Cosentino et al. 2020).

    Attributes:
        root: the folder Libri2Mix or Libri3Mix.
        task: "sep_clean" (default), "sep_noisy", "enh_single" or "enh_both".
        mode: "min" (default) or "max".
        rate: "wav8k" (default) or "wav16k".
        train: "train-100" or "train-360" (default).
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


def _relocate(path: str, folder: Path) -> Path:
    """Move a path to `folder`: keep only its last three parts, split/kind/name, as below `wav8k/min/`."""
    return folder.joinpath(*PurePosixPath(path.replace("\\", "/")).parts[-3:])
