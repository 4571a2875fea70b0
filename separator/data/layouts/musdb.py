"""MUSDB18 and MUSDB18-HQ (Rafii et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from separator.data.groups import SetData
from separator.data.ready_made import Part, Row
from separator.errors import ConfigError, DataError
from separator.io.formats import SUFFIXES

MUSDB_STEMS = ("drums", "bass", "other", "vocals")
# Order of the streams in a .stem.mp4.
MUSDB_STREAMS = ("mixture", *MUSDB_STEMS)
# Training tracks that the musdb package uses for validation.
MUSDB_VALID = (
    "Actions - One Minute Smile",
    "Clara Berry And Wooldog - Waltz For My Victims",
    "Johnny Lokke - Promises & Lies",
    "Patrick Talbot - A Reason To Leave",
    "Triviul - Angelsaint",
    "Alexander Ross - Goodbye Bolero",
    "Fergessen - Nos Palpitants",
    "Leaf - Summerghost",
    "Skelpolu - Human Mistakes",
    "Young Griffo - Pennies",
    "ANiMAL - Rockshow",
    "James May - On The Line",
    "Meaxic - Take A Step",
    "Traffic Experiment - Sirens",
)


def musdb(root: Path, split: str, sources: Sequence[str]) -> list[Row]:
    """Rows of MUSDB18-HQ (`root/train/TRACK/vocals.wav`, ...) or MUSDB18 (`root/train/TRACK.stem.mp4`).

    Args:
        root: the folder that contains train and test.
        split: "train", "valid" (the 14 tracks of train that the musdb package uses for validation) or "test".
        sources: names of stems, and at most one other name (such as accompaniment). That source is the sum of all
            other stems.

    Raises:
        DataError: if there are no tracks, or if a track lacks a stem.
        ConfigError: if more than one name is not a stem.
    """
    stems = _stems(sources)
    folder = root / ("test" if split == "test" else "train")
    tracks = sorted(
        path
        for path in (folder.iterdir() if folder.is_dir() else ())
        if not path.name.startswith(".") and (path.is_dir() or path.name.endswith(".stem.mp4"))
    )
    if not tracks:
        raise DataError(
            f"{folder}: contains no tracks; download MUSDB18-HQ from https://zenodo.org/records/3338373, and set "
            "data.root to the folder that contains train and test"
        )
    names = {path: path.name.removesuffix(".stem.mp4") for path in tracks}
    if split != "test" and any(name in MUSDB_VALID for name in names.values()):
        tracks = [path for path in tracks if (names[path] in MUSDB_VALID) == (split == "valid")]
    elif split != "test":  # the user's own tracks in the same layout
        if len(tracks) < 2:
            raise DataError(f"{folder}: contains 1 track, wanted at least 2: one to train and one to validate on")
        num_valid = max(1, len(tracks) // 10)
        tracks = tracks[:num_valid] if split == "valid" else tracks[num_valid:]
    rows = []
    for track in tracks:
        parts = {stem: _stem(track, stem) for source in stems.values() for stem in source}
        summed = tuple(tuple(parts[stem] for stem in source) for source in stems.values())
        adds_up = set(parts) == set(MUSDB_STEMS)
        rows.append(Row(names[track], str(track), summed, _stem(track, "mixture"), adds_up=adds_up))
    return rows


@dataclass(frozen=True, kw_only=True)
class MusdbData(SetData):
    """`data=musdb data.root=musdb18hq`: songs and their stems.

    Attributes:
        root: the folder that contains train and test.
    """

    root: str

    def rows(self, split: str, sources: Sequence[str]) -> list[Row]:
        """The songs of a split. A source whose name is not a stem is the sum of the other stems."""
        return musdb(Path(self.root), split, sources)


def _stems(sources: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Source -> the stems that are added up for it."""
    rest = tuple(stem for stem in MUSDB_STEMS if stem not in sources)
    others = [name for name in sources if name not in MUSDB_STEMS]
    if len(others) > 1 or (others and not rest):
        raise ConfigError(
            f"model.sources are {', '.join(sources)}; for MUSDB they can be {', '.join(MUSDB_STEMS)}, and one other "
            "name for the sum of the other stems"
        )
    return {name: (name,) if name in MUSDB_STEMS else rest for name in sources}


def _stem(track: Path, stem: str) -> Part:
    if track.is_file():
        return Part(track, stream=MUSDB_STREAMS.index(stem))
    path = next((path for path in (track / f"{stem}{end}" for end in sorted(SUFFIXES)) if path.is_file()), None)
    if path is None:
        raise DataError(f"{track}: contains no {stem}.wav (or .flac, ...)")
    return Part(path)
