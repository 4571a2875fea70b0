"""What a visitor sees and hears of a separated recording, and takes home."""

from __future__ import annotations

import html
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from separator.html import player, track_picture
from separator.html.player import Track
from separator.inference import report_page
from separator.io import readers, wav
from separator.web.jobs import Outcome

# In which a recording is kept to be heard: any length, any number of channels, sought in without delay.
HEARD = {"format": "CAF", "subtype": "PCM_16"}
# What the recording itself is called among the stems: no source can be.
RECORDING = "-"
LIVE_NAME = "live"
# Samples that are asked for at a time, at most.
MAX_SAMPLES = 2**20
# Of a name, what any file system takes.
MAX_NAME = 80


@dataclass(frozen=True)
class Shelf:
    """A separated recording, to be heard and saved.

    Attributes:
        name: what it is called.
        heard: the recording as it is heard.
        stems: their files by name.
        page: HTML of it all.
    """

    name: str
    heard: Path | None
    stems: Mapping[str, Path]
    page: str

    def file(self, name: str) -> Path | None:
        """Of a stem, or of the recording, which is called "-"; None if there is none."""
        return self.heard if name == RECORDING else self.stems.get(name)


def shelve(outcome: Outcome, folder: Path, number: int) -> Shelf:
    """What became of a recording: the player, the downloads, the figures. Sound is asked for when it is heard."""
    name, result = outcome.recording.name, outcome.result
    if result is None:
        page = f'<p class="failed" role="alert"><b>{html.escape(name)}</b>: {html.escape(outcome.error)}</p>'
        return Shelf(name, None, {}, page)
    heard = folder / f"heard{number}.caf"
    recording = _Recording(name, folder.name, number, result.sample_rate, result.channels, result.seconds)
    # Where a checkpoint lies on this machine is nothing for visitors.
    shown = replace(result, model=Path(result.model).name if Path(result.model).exists() else result.model)
    notes = {stem: report_page.note(stem, result) for stem in result.paths}
    damage = f"{result.damage}; the stems hold that much." if result.damage else ""
    remarks = "".join(f'<p class="remark">{html.escape(note.fact)}.</p>' for note in result.notes)
    page = (
        f"<h2>{html.escape(name)}</h2>"
        + remarks
        + (f'<p class="damage" role="alert">{html.escape(damage)}</p>' if damage else "")
        + recording.player(result.path, result.paths, heard, notes, result.unsure_joins)
        + f"<details><summary>Figures</summary>{report_page.figures(shown)}</details>"
    )
    return Shelf(name, heard, result.paths, page)


def shelve_live(path: Path, stems: Mapping[str, Path], sample_rate: int) -> Shelf:
    """What came live: the recording, and its stems."""
    with readers.open_recording(path) as recording:
        seconds = (recording.promised or 0) / sample_rate
    shown = _Recording(LIVE_NAME, path.parent.name, 0, sample_rate, 1, seconds)
    return Shelf(LIVE_NAME, path, stems, shown.player(path, stems, None, {}, ()))


@dataclass(frozen=True)
class _Recording:
    """What a page must know of a recording."""

    name: str
    token: str
    number: int
    sample_rate: int
    channels: int
    seconds: float

    def player(
        self,
        path: Path,
        stems: Mapping[str, Path],
        heard: Path | None,
        notes: Mapping[str, str],
        joins: Sequence[tuple[float, float]],
    ) -> str:
        """The player of a recording and its stems; if `heard` is given, the recording is written there to be heard."""
        address = f"jobs/{self.token}/{self.number}"
        tracks = [self._track("recording", path, f"{address}/sound/{RECORDING}", heard, muted=True)]
        for name, stem in stems.items():
            tracks.append(
                self._track(
                    name, stem, f"{address}/sound/{name}", note=notes.get(name, ""), download=f"{address}/stem/{name}"
                )
            )
        return player.fragment(tracks, self.sample_rate, joins, label=f"{self.name} and its stems")

    def _track(self, name: str, path: Path, sound: str, heard: Path | None = None, **settings: Any) -> Track:
        measured = path, round(self.seconds * self.sample_rate), self.sample_rate
        if heard is None:
            lane = track_picture.measure_file(*measured)
        else:
            with soundfile.SoundFile(heard, "w", self.sample_rate, self.channels, **HEARD) as file:
                lane = track_picture.measure_file(*measured, lambda block: file.write(block.T))
        return Track(name, lane, player.served(sound, self.channels), **settings)


def sound(path: Path, start: int, count: int) -> bytes:
    """Samples of a file as 16 bits, little-endian, channels side by side; fewer at its end."""
    with soundfile.SoundFile(path) as file:
        start = min(max(0, start), file.frames)
        file.seek(start)
        samples = file.read(min(max(0, count), MAX_SAMPLES), dtype="float32", always_2d=True)
    return wav.encode(samples.T, "PCM_16")


def save_all(folder: Path) -> str:
    """HTML of the link to all stems in a visitor's folder."""
    return f'<a class="all" href="jobs/{folder.name}/stems.zip" download>Save all stems (zip)</a>'


def write_zip(shelves: Sequence[Shelf], path: Path) -> None:
    """All stems of some recordings, each one's in a folder of its name."""
    folders = _numbered([safe_name(shelf.name) for shelf in shelves])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for folder, shelf in zip(folders, shelves, strict=True):
            for stem in shelf.stems.values():
                archive.write(stem, f"{folder}/{stem.name}")


def safe_name(name: str) -> str:
    """A recording's name without its ending, as any file system takes it."""
    kept = re.sub(r"[^\w .()\[\]&+,'-]", "_", Path(name).stem).strip(" .")
    return kept[:MAX_NAME].rstrip(" .") or "recording"


def _numbered(names: Iterable[str]) -> list[str]:
    """The names, of which those that come again are numbered."""
    found: list[str] = []
    for name in names:
        count, one = 1, name
        while one.lower() in map(str.lower, found):
            count += 1
            one = f"{name} ({count})"
        found.append(one)
    return found
