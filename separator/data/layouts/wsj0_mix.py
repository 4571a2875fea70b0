"""WSJ0-mix (Hershey et al. 2016) and WHAM! (Wichern et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from separator.data.groups import SetData
from separator.data.ready_made import Part, Row
from separator.data.recordings import audio_files
from separator.errors import DataError

WSJ0_SPLITS = {"train": "tr", "valid": "cv", "test": "tt"}


def wsj0_mix(root: Path, split: str, mixture: str, num_sources: int) -> list[Row]:
    """Rows of WSJ0-mix (Hershey et al. 2016) or WHAM! (Wichern et al. 2019): `root/tr/mix/*.wav`, `s1`, `s2`, ...

    Args:
        root: such as `2speakers/wav8k/min`.
        split: "train", "valid" or "test": the folders tr, cv and tt.
        mixture: folder of the mixtures: "mix", or WHAM!'s "mix_clean", "mix_both", "mix_single".
        num_sources: folders s1, s2, ...

    Raises:
        DataError: if a folder is missing or a mixture has no source of its name.
    """
    folder = root / WSJ0_SPLITS[split]
    folders = [folder / mixture, *(folder / f"s{number}" for number in range(1, num_sources + 1))]
    for path in folders:
        if not path.is_dir():
            raise DataError(
                f"{path}: no such folder; WSJ0-mix and WHAM! are made from WSJ0 (LDC93S6A) by the scripts of "
                "http://wham.whisper.ai, and data.root is a folder such as 2speakers/wav8k/min"
            )
    more = folder / f"s{num_sources + 1}"
    if more.is_dir() and mixture != "mix_single":
        raise DataError(f"{more}: there are more than {num_sources} sources; set model.num_sources")
    rows = []
    for path in sorted(audio_files(folders[0])):
        paths = [other / path.name for other in folders[1:]]
        missing = next((other for other in paths if not other.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing}: no such file, though there is a mixture {path}")
        sources = tuple((Part(other),) for other in paths)
        rows.append(Row(path.stem, str(path), sources, Part(path), adds_up=mixture in ("mix", "mix_clean")))
    if not rows:
        raise DataError(f"{folders[0]}: there is no audio in it")
    return rows


@dataclass(frozen=True, kw_only=True)
class Wsj0MixData(SetData):
    """`data=wsj0_mix data.root=2speakers/wav8k/min`: WSJ0-mix, or WHAM! by its folders' names.

    Attributes:
        root: the folder with tr, cv and tt in it.
        mixture: folder of the mixtures: "mix", or WHAM!'s "mix_clean", "mix_both", "mix_single".
    """

    root: str
    mixture: str = "mix"

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        return wsj0_mix(Path(self.root), split, self.mixture, len(sources))
