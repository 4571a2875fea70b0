"""What is to be separated: files, folders, patterns and lists -> recordings, each with the name of its track."""

from __future__ import annotations

import csv
import glob
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from separator.errors import AudioError, ConfigError, reason

# What libsndfile reads, and corpora are in.
AUDIO_SUFFIXES = {
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".au", ".caf", ".w64", ".rf64"),
}
# What is taken from a folder; a file that is named is taken whatever its name.
SUFFIXES = AUDIO_SUFFIXES | {
    *(".m4a", ".m4b", ".aac", ".ac3", ".eac3", ".dts", ".wma", ".amr", ".ape", ".tta", ".wv", ".mka"),
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".wmv", ".avi", ".3gp", ".flv", ".ogv", ".mpg", ".mpeg", ".ts", ".mts"),
}


@dataclass(frozen=True)
class Item:
    """What is separated at a time: a recording or a part of it.

    Attributes:
        path: the recording; a string if it is a URL.
        track: name that its stems are filed under.
        audio_track: which of its audio tracks, from 1 on; None for the best one.
        channels: numbers of its channels, from 1 on; None for all.
    """

    path: Path | str
    track: str
    audio_track: int | None = None
    channels: tuple[int, ...] | None = None


def find(names: Sequence[str], lists: Sequence[Path] = (), out: Path | None = None) -> list[Item]:
    """The recordings that are meant, each once, in a fixed order.

    Args:
        names: files; folders, of which everything is taken at any depth; patterns such as `calls/**/*.wav`.
        lists: files with names in them, relative to their folder: one in a line; CSV with a column `path` and, if
            you like, `track`; or JSONL with these fields.
        out: a folder that is left out, since there the stems are.

    Raises:
        AudioError: for a folder or pattern with nothing in it.
        ConfigError: for a list that cannot be read, or two recordings whose stems would have the same names.
    """
    items = [item for name in names for item in _named(name, out)]
    items += [item for path in lists for item in _listed(path)]
    unique = list({os.path.abspath(item.path): item for item in items}.values())  # noqa: PTH100 - no links followed
    return told_apart(unique)


def _named(name: str, out: Path | None) -> Iterator[Item]:
    path = Path(name)
    # os.path answers no where a name is impossible; opening it will say why.
    if os.path.isdir(path):  # noqa: PTH112
        if out is not None and out.resolve() == path.resolve():
            raise ConfigError(
                f"{path}: the stems would lie among the recordings and be separated themselves the next time; "
                f"choose another --out, such as {path / 'stems'}"
            )
        found = _in_folder(path, path.rglob("*"), out)
        yield from some(found, name)
    elif glob.has_magic(name) and not os.path.exists(path):  # noqa: PTH110
        fixed = Path(*_until_magic(path.parts))
        found = _in_folder(fixed, fixed.glob(str(path.relative_to(fixed))), out, any_suffix=True)
        if not found:
            raise AudioError(f"{name}: no file has such a name")
        yield from found
    else:
        yield Item(path, path.stem or "recording")


def _in_folder(folder: Path, paths: Iterable[Path], out: Path | None, any_suffix: bool = False) -> list[Item]:
    own = None if out is None else out.resolve()
    below = own is not None and folder.resolve() in own.parents
    items = []
    for path in sorted(paths):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or not (any_suffix or path.suffix.lower() in SUFFIXES):
            continue
        if not below or own not in path.resolve().parents:
            items.append(Item(path, path.relative_to(folder).with_suffix("").as_posix()))
    return items


def _until_magic(parts: Sequence[str]) -> Iterator[str]:
    for part in parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _listed(path: Path) -> Iterator[Item]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_rows(path, file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path}: cannot be read as a list ({reason(error)}); expected a path in each line, or CSV or JSONL with "
            "a column path"
        ) from error
    if not rows:
        raise ConfigError(f"{path}: the list is empty; expected a path in each line")
    for row in rows:
        name = row.get("path")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{path}: a row without a path: {row}; expected the columns path and perhaps track")
        recording = path.parent / name
        yield Item(recording, str(row.get("track") or recording.stem))


def _rows(path: Path, file: Iterable[str]) -> Iterator[dict]:
    if path.suffix.lower() == ".csv":
        yield from csv.DictReader(file)
    elif path.suffix.lower() == ".jsonl":
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}: line {number} is no JSON ({error.msg})") from error
            if row is not None:
                yield row if isinstance(row, dict) else {"path": row}
    else:
        yield from ({"path": line.strip()} for line in file if line.strip())


def some(items: list[Item], place: str) -> list[Item]:
    """What was found in a folder or at a URL. Raises `AudioError` if that is nothing."""
    if not items:
        raise AudioError(f"{place}: holds no recordings; expected files such as .wav, .flac, .mp3, .m4a, .mp4")
    return items


def told_apart(items: list[Item]) -> list[Item]:
    """Recordings of one name and different formats keep their suffix in their track."""
    tracks = defaultdict(list)
    for item in items:
        tracks[item.track].append(item)
    told = [
        item if len(tracks[item.track]) == 1 else replace(item, track=item.track + Path(item.path).suffix)
        for item in items
    ]
    seen: dict[str, Path | str] = {}
    for item in told:
        if item.track in seen:
            raise ConfigError(
                f"{seen[item.track]} and {item.path}: their stems would have the same names; give their common folder, "
                "or separate them to different places with --out"
            )
        seen[item.track] = item.path
    return told
