"""Results on the page: players, figures, and files to save."""

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

# Format of the copy of a recording for the player. It allows any length, any number of channels, and fast seeking.
HEARD = {"format": "CAF", "subtype": "PCM_16"}
# Name of the recording itself among the stems. No source can have this name.
RECORDING = "-"
LIVE_NAME = "live"
# Maximum number of samples per request.
MAX_SAMPLES = 2**20
# Maximum length of a file name, for any file system.
MAX_NAME = 80


@dataclass(frozen=True)
class PageEntry:
    """A separated recording on the page, or one that failed.

    Attributes:
        name: displayed name.
        heard: file of the recording for the player. None if the separation failed.
        stems: name of each stem -> its file.
        page: HTML of the entry.
    """

    name: str
    heard: Path | None
    stems: Mapping[str, Path]
    page: str

    def file(self, name: str) -> Path | None:
        """Return the file of a stem, or of the recording for the name "-". None if there is no such file."""
        return self.heard if name == RECORDING else self.stems.get(name)


def make_entry(outcome: Outcome, folder: Path, number: int) -> PageEntry:
    """Make the entry of a recording: player, downloads and figures. The page loads sound only when it is played."""
    name, result = outcome.recording.name, outcome.result
    if result is None:
        page = f'<p class="failed" role="alert"><b>{html.escape(name)}</b>: {html.escape(outcome.error)}</p>'
        return PageEntry(name, None, {}, page)
    heard = folder / f"heard{number}.caf"
    recording = _Recording(name, folder.name, number, result.sample_rate, result.channels, result.seconds)
    # Visitors see the name of a checkpoint without its path on this machine.
    shown = replace(result, model=Path(result.model).name if Path(result.model).exists() else result.model)
    notes = {stem: report_page.note(stem, result) for stem in result.paths}
    damage = f"{result.damage}; the stems hold only this part." if result.damage else ""
    remarks = "".join(f'<p class="remark">{html.escape(note.fact)}.</p>' for note in result.notes)
    page = (
        f"<h2>{html.escape(name)}</h2>"
        + remarks
        + (f'<p class="damage" role="alert">{html.escape(damage)}</p>' if damage else "")
        + recording.player(result.path, result.paths, heard, notes, result.unsure_joins)
        + f"<details><summary>Figures</summary>{report_page.figures(shown)}</details>"
    )
    return PageEntry(name, heard, result.paths, page)


def make_live_entry(path: Path, stems: Mapping[str, Path], sample_rate: int) -> PageEntry:
    """Make the entry of a live session: a player of the recording and its stems."""
    with readers.open_recording(path) as recording:
        seconds = (recording.promised or 0) / sample_rate
    shown = _Recording(LIVE_NAME, path.parent.name, 0, sample_rate, 1, seconds)
    return PageEntry(LIVE_NAME, path, stems, shown.player(path, stems, None, {}, ()))


@dataclass(frozen=True)
class _Recording:
    """What the player needs to know about a recording."""

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
        """Return the player of a recording and its stems. Write a copy for the player to `heard`, if given."""
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
    """Return samples of a file as 16 bits, little-endian, interleaved. There may be fewer at the end of the file."""
    with soundfile.SoundFile(path) as file:
        start = min(max(0, start), file.frames)
        file.seek(start)
        samples = file.read(min(max(0, count), MAX_SAMPLES), dtype="float32", always_2d=True)
    return wav.encode(samples.T, "PCM_16")


def save_all(folder: Path) -> str:
    """Return the HTML of the link to all stems in a folder."""
    return f'<a class="all" href="jobs/{folder.name}/stems.zip" download>Save all stems (zip)</a>'


def write_zip(entries: Sequence[PageEntry], path: Path) -> None:
    """Write all stems to a zip file, with one folder for each recording."""
    folders = _numbered([safe_name(entry.name) for entry in entries])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for folder, entry in zip(folders, entries, strict=True):
            for stem in entry.stems.values():
                archive.write(stem, f"{folder}/{stem.name}")


def safe_name(name: str) -> str:
    """Return a recording's name without its extension, in characters that any file system takes."""
    kept = re.sub(r"[^\w .()\[\]&+,'-]", "_", Path(name).stem).strip(" .")
    return kept[:MAX_NAME].rstrip(" .") or "recording"


def _numbered(names: Iterable[str]) -> list[str]:
    """Number names that occur more than once. Upper and lower case count as equal."""
    found: list[str] = []
    for name in names:
        count, unique = 1, name
        while unique.lower() in map(str.lower, found):
            count += 1
            unique = f"{name} ({count})"
        found.append(unique)
    return found
