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
        root: a folder such as `2speakers/wav8k/min`.
        split: "train", "valid" or "test", for the folders tr, cv and tt.
        mixture: folder of the mixtures: "mix", or WHAM!'s "mix_clean", "mix_both" or "mix_single".
        num_sources: number of the source folders s1, s2, ...

    Raises:
        DataError: if a folder is missing, if a mixture has no source of the same name, or if there are more sources.
    """
    folder = root / WSJ0_SPLITS[split]
    folders = [folder / mixture, *(folder / f"s{number}" for number in range(1, num_sources + 1))]
    for path in folders:
        if not path.is_dir():
            raise DataError(
                f"{path}: no such folder; make WSJ0-mix or WHAM! from WSJ0 (LDC93S6A) with the scripts of "
                "http://wham.whisper.ai, and set data.root to a folder such as 2speakers/wav8k/min"
            )
    more = folder / f"s{num_sources + 1}"
    if more.is_dir() and mixture != "mix_single":
        raise DataError(f"{more}: the set has more than {num_sources} sources; set model.num_sources")
    rows = []
    for path in sorted(audio_files(folders[0])):
        paths = [other / path.name for other in folders[1:]]
        missing = next((other for other in paths if not other.is_file()), None)
        if missing is not None:
            raise DataError(f"{missing}: no such file, but the mixture {path} needs it")
        sources = tuple((Part(other),) for other in paths)
        rows.append(Row(path.stem, str(path), sources, Part(path), adds_up=mixture in ("mix", "mix_clean")))
    if not rows:
        raise DataError(f"{folders[0]}: contains no audio")
    return rows


@dataclass(frozen=True, kw_only=True)
class Wsj0MixData(SetData):
    """`data=wsj0_mix data.root=2speakers/wav8k/min`: WSJ0-mix, or WHAM! with its folder names.

    Attributes:
        root: the folder that contains tr, cv and tt.
        mixture: folder of the mixtures: "mix" (default), or WHAM!'s "mix_clean", "mix_both" or "mix_single".
    """

    root: str
    mixture: str = "mix"

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The mixtures of a split."""
        return wsj0_mix(Path(self.root), split, self.mixture, len(sources))
