"""Find the recordings to separate, from files, folders, patterns and lists. Each recording gets a track name."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path

from separator.errors import AudioError, ConfigError, reason
from separator.io.formats import SUFFIXES


@dataclass(frozen=True)
class Item:
    """A recording, or a part of a recording, that is separated on its own.

    Attributes:
        path: the recording. A string if it is a URL.
        track: name for the files of its stems.
        audio_track: number of the audio track, counted from 1. None (default) for the best track.
        channels: numbers of the channels, counted from 1. None (default) for all channels.
    """

    path: Path | str
    track: str
    audio_track: int | None = None
    channels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class _Found:
    """An item, and whether its track name came from a list."""

    item: Item
    has_given_track: bool = False


def find(names: Sequence[str], lists: Sequence[Path] = (), out: Path | None = None) -> list[Item]:
    """Find recordings, in a fixed order.

    Each recording is returned once. If lists give it several track names, it is returned once for each of them.

    Args:
        names: files, folders, or patterns such as `calls/**/*.wav`. Folders are searched at any depth.
        lists: files with the names of recordings and folders, relative to the folder of the list. A list is one of:
            a text file with one name per line, optionally in quotes, where lines that begin with `#` are comments; a
            CSV or TSV file with a column `path` and optionally `track`; a JSONL file with these fields.
        out: folder of the stems. Files in it are skipped.

    Raises:
        AudioError: if a folder contains no recordings, or no file matches a pattern.
        ConfigError: if a list cannot be read, or two recordings would have stems with the same names.
    """
    found = [_Found(item) for name in names for item in _from_name(name, out)]
    found += [entry for path in lists for entry in _from_list(path, out)]
    return make_tracks_unique(_each_once(found))


def _each_once(found: Iterable[_Found]) -> list[Item]:
    """Return each recording once, or once for each track name that lists give it."""
    recordings: dict[str, dict[str | None, Item]] = defaultdict(dict)
    for entry in found:
        place = os.path.abspath(entry.item.path)  # noqa: PTH100 - does not follow links
        recordings[place][entry.item.track if entry.has_given_track else None] = entry.item
    return [
        item
        for tracks in recordings.values()
        for track, item in tracks.items()
        if track is not None or len(tracks) == 1
    ]


def _from_name(name: str, out: Path | None) -> Iterator[Item]:
    path = Path(name)
    # For an impossible name, os.path.isdir returns False. Opening the file later gives the reason.
    if os.path.isdir(path):  # noqa: PTH112
        if out is not None and out.resolve() == path.resolve():
            raise ConfigError(
                f"{path}: the stems would be written among the recordings, and the next run would separate them; "
                f"choose another --out, such as {path / 'stems'}"
            )
        found = _in_folder(path, _walk(path), out)
        yield from require_any(found, name)
    elif glob.has_magic(name) and not os.path.exists(path):  # noqa: PTH110
        fixed = Path(*_fixed_parts(path.parts))
        found = _in_folder(fixed, fixed.glob(str(path.relative_to(fixed))), out, any_suffix=True)
        if not found:
            raise AudioError(f"{name}: no file matches this pattern; check the folder and the pattern")
        yield from found
    else:
        yield Item(path, path.stem or "recording")


def _in_folder(folder: Path, paths: Iterable[Path], out: Path | None, any_suffix: bool = False) -> list[Item]:
    own, root = None if out is None else out.resolve(), folder.resolve()
    # If the folder itself is inside the folder of the stems, its recordings are not skipped.
    is_around = own is None or own == root or own in root.parents
    items = []
    for path in sorted(paths):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or not (any_suffix or path.suffix.lower() in SUFFIXES):
            continue
        if is_around or own not in path.resolve().parents:
            items.append(Item(path, path.relative_to(folder).with_suffix("").as_posix()))
    return items


def _walk(folder: Path) -> Iterator[Path]:
    """Yield files at any depth, also through links to folders. Each folder is read once, so links may form cycles."""
    seen: set[str] = set()
    links = deque([str(folder)])
    while links:
        for root, folders, names in os.walk(links.popleft()):
            place = os.path.realpath(root)
            folders[:] = [name for name in folders if not name.startswith(".") and place not in seen]
            links += [path for name in folders if os.path.islink(path := os.path.join(root, name))]  # noqa: PTH114, PTH118
            if place not in seen:
                yield from (Path(root, name) for name in names)
            seen.add(place)


def _fixed_parts(parts: Sequence[str]) -> Iterator[str]:
    for part in parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _from_list(path: Path, out: Path | None) -> Iterator[_Found]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(path, file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path}: cannot be read as a list ({reason(error)}); expected a path in each line, or CSV, TSV or JSONL "
            "with a column path"
        ) from error
    if not rows:
        raise ConfigError(f"{path}: the list is empty; expected a path in each line")
    for row in rows:
        name, track = row.get("path"), str(row.get("track") or "")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path}: a row without a path: {row}; expected a column path, and optionally track")
        if None in row:
            raise ConfigError(f"{path}: the row of {name} has more fields than the header; put quotes around commas")
        recording = path.parent / name
        if os.path.isdir(recording):  # noqa: PTH112 - also of impossible names
            for item in _from_name(str(recording), out):
                yield _Found(
                    replace(item, track=f"{track}/{item.track}") if track else item, has_given_track=bool(track)
                )
        else:
            yield _Found(Item(recording, track or recording.stem), has_given_track=bool(track))


def _rows(path: Path, file: Iterable[str]) -> Iterator[dict]:
    if path.suffix.lower() in (".csv", ".tsv"):
        table = dropwhile(lambda line: line.startswith("#"), file)
        yield from csv.DictReader(table, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    elif path.suffix.lower() == ".jsonl":
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}: line {number} is not valid JSON ({error.msg})") from error
            if row is not None:
                yield row if isinstance(row, dict) else {"path": row}
    else:
        names = (_name_in(line.strip(), path.parent) for line in file)
        yield from ({"path": name} for name in names if name)


def _name_in(line: str, folder: Path) -> str:
    """Return the name in a line of a list, without quotes, or "" for a comment.

    If a file with exactly this name exists, the line is its name, even if it looks like a comment or has quotes.
    """
    if not line or os.path.exists(folder / line):  # noqa: PTH110 - also of impossible names
        return line
    if line.startswith("#"):
        return ""
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line


def require_any(items: list[Item], place: str) -> list[Item]:
    """Return the items that were found in a folder or at a URL. Raise `AudioError` if there are none."""
    if not items:
        raise AudioError(f"{place}: contains no recordings; expected files such as .wav, .flac, .mp3, .m4a, .mp4")
    return items


def make_tracks_unique(items: list[Item]) -> list[Item]:
    """Add the file suffix to the track names of recordings that would otherwise have the same track name.

    Raises:
        ConfigError: if two track names are still the same.
    """
    tracks = defaultdict(list)
    for item in items:
        tracks[item.track].append(item)
    unique = [
        item if len(tracks[item.track]) == 1 else replace(item, track=item.track + Path(item.path).suffix)
        for item in items
    ]
    seen: dict[str, Path | str] = {}
    for item in unique:
        name = os.path.normcase(item.track)
        if name in seen:
            raise ConfigError(
                f"{seen[name]} and {item.path}: their stems would have the same names; name their common folder "
                "instead, or separate them into different folders with --out"
            )
        seen[name] = item.path
    return unique
