"""What is to be separated: files, folders, patterns and lists -> recordings, each with the name of its track."""

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


@dataclass(frozen=True)
class _Found:
    """An item, and whether a list gave it its track."""

    item: Item
    is_given: bool = False


def find(names: Sequence[str], lists: Sequence[Path] = (), out: Path | None = None) -> list[Item]:
    """The recordings that are meant, each once, in a fixed order; more than once where lists give it several tracks.

    Args:
        names: files; folders, of which everything is taken at any depth; patterns such as `calls/**/*.wav`.
        lists: files with names of recordings and folders, relative to their own folder. One name in a line, perhaps in
            quotes, with comments behind `#`; CSV or TSV with a column `path` and, if you like, `track`; or JSONL with
            these fields.
        out: a folder that is left out, since there the stems are.

    Raises:
        AudioError: for a folder or pattern with nothing in it.
        ConfigError: for a list that cannot be read, or two recordings whose stems would have the same names.
    """
    found = [_Found(item) for name in names for item in _named(name, out)]
    found += [one for path in lists for one in _listed(path, out)]
    return told_apart(_each_once(found))


def _each_once(found: Iterable[_Found]) -> list[Item]:
    """Each recording once, or once for each track that lists give it."""
    recordings: dict[str, dict[str | None, Item]] = defaultdict(dict)
    for one in found:
        place = os.path.abspath(one.item.path)  # noqa: PTH100 - no links followed
        recordings[place][one.item.track if one.is_given else None] = one.item
    return [
        item
        for tracks in recordings.values()
        for track, item in tracks.items()
        if track is not None or len(tracks) == 1
    ]


def _named(name: str, out: Path | None) -> Iterator[Item]:
    path = Path(name)
    # os.path answers no where a name is impossible; opening it will say why.
    if os.path.isdir(path):  # noqa: PTH112
        if out is not None and out.resolve() == path.resolve():
            raise ConfigError(
                f"{path}: the stems would lie among the recordings and be separated themselves the next time; "
                f"choose another --out, such as {path / 'stems'}"
            )
        found = _in_folder(path, _below(path), out)
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
    own, root = None if out is None else out.resolve(), folder.resolve()
    # Where the recordings lie in the folder for stems, that is no reason to leave them out.
    is_around = own is None or own == root or own in root.parents
    items = []
    for path in sorted(paths):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or not (any_suffix or path.suffix.lower() in SUFFIXES):
            continue
        if is_around or own not in path.resolve().parents:
            items.append(Item(path, path.relative_to(folder).with_suffix("").as_posix()))
    return items


def _below(folder: Path) -> Iterator[Path]:
    """Files at any depth, also behind links to folders. Each folder is taken once, so that links may form circles."""
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


def _until_magic(parts: Sequence[str]) -> Iterator[str]:
    for part in parts[:-1]:
        if glob.has_magic(part):
            return
        yield part


def _listed(path: Path, out: Path | None) -> Iterator[_Found]:
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
            raise ConfigError(f"{path}: a row without a path: {row}; expected the columns path and perhaps track")
        if None in row:
            raise ConfigError(f"{path}: the row of {name} has more fields than the header; put quotes around commas")
        recording = path.parent / name
        if os.path.isdir(recording):  # noqa: PTH112 - also of impossible names
            for item in _named(str(recording), out):
                yield _Found(replace(item, track=f"{track}/{item.track}") if track else item, is_given=bool(track))
        else:
            yield _Found(Item(recording, track or recording.stem), is_given=bool(track))


def _rows(path: Path, file: Iterable[str]) -> Iterator[dict]:
    if path.suffix.lower() in (".csv", ".tsv"):
        table = dropwhile(lambda line: line.startswith("#"), file)
        yield from csv.DictReader(table, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    elif path.suffix.lower() == ".jsonl":
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line) if line.strip() else None
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}: line {number} is no JSON ({error.msg})") from error
            if row is not None:
                yield row if isinstance(row, dict) else {"path": row}
    else:
        names = (_name_in(line.strip(), path.parent) for line in file)
        yield from ({"path": name} for name in names if name)


def _name_in(line: str, folder: Path) -> str:
    """The name in a line of a list, without the quotes around it; nothing for a comment. Files come first."""
    if not line or os.path.exists(folder / line):  # noqa: PTH110 - also of impossible names
        return line
    if line.startswith("#"):
        return ""
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line


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
        name = os.path.normcase(item.track)
        if name in seen:
            raise ConfigError(
                f"{seen[name]} and {item.path}: their stems would have the same names; give their common folder, "
                "or separate them to different places with --out"
            )
        seen[name] = item.path
    return told
