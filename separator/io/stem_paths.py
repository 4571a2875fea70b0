"""File names of the stems."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from separator.errors import AudioError, ConfigError, reason

DEFAULT = "{track}/{stem}.{ext}"
# Characters that Windows does not allow in a name, and the names of its devices, which it does not allow either.
WINDOWS_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')
WINDOWS_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10)),
}


def fill_in(sources: Sequence[str], out: str | Path, filename: str, track: str, extension: str) -> dict[str, Path]:
    """Return the path of each source's stem: source name -> path.

    Args:
        sources: names of the sources.
        out: folder for the stems.
        filename: template of the path inside `out`, with the fields {track}, {stem} and {ext}.
        track: track name of the recording.
        extension: file suffix without the dot.

    Raises:
        ConfigError: if the template has an unknown field, gives two stems the same path, or gives a path outside `out`.
    """
    try:
        names = {name: filename.format(track=track, stem=name, ext=extension) for name in sources}
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"filename {filename!r}: only {{track}}, {{stem}} and {{ext}} can be filled in") from error
    for name in names.values():
        if (problem := problem_of(name)) is not None:
            raise ConfigError(f"filename {filename!r} gives {name!r}, which {problem}")
    if len({os.path.normpath(name) for name in names.values()}) < len(names):
        raise ConfigError(f"filename {filename!r} gives several stems the same name; add {{stem}} to it")
    return {source: Path(out) / name for source, name in names.items()}


def problem_of(name: str, system: type[PurePath] = Path) -> str | None:
    """Say why a name is not valid for a file inside a folder, as the end of a sentence. Return None if it is valid.

    Args:
        name: relative path, with `/` or another folder separator of that system.
        system: path type of the system (default: the current system).
    """
    is_windows = issubclass(system, PureWindowsPath)
    inside = system((ntpath if is_windows else posixpath).normpath(name))
    # Joining a folder and a path with a drive or a root drops the folder, even if that path is not absolute.
    if not inside.parts or inside.drive or inside.root or inside.parts[0] == os.pardir:
        return "is not inside the folder of --out"
    if is_windows:
        for part in inside.parts:
            if WINDOWS_FORBIDDEN.search(part) or part.partition(".")[0].upper() in WINDOWS_DEVICES:
                return f"Windows does not allow ({part!r}); choose other names with --filename or in the list"
    return None


def check_free(paths: Iterable[Path], overwrite: bool, recording: Path) -> None:
    """Check that stems can be written to these paths.

    Args:
        paths: paths of the stems.
        overwrite: whether existing files may be replaced. A folder or the recording itself is never replaced.
        recording: the recording that is separated.

    Raises:
        AudioError: if a file exists that may not be replaced.
    """
    for path in paths:
        try:
            exists, is_folder = path.exists(), path.is_dir()
        except OSError as error:
            raise AudioError(
                f"{path}: cannot be written ({reason(error)}); choose another folder with --out"
            ) from error
        if is_folder:
            raise AudioError(f"{path}: is a folder; choose another folder with --out")
        if exists and os.path.exists(recording) and path.samefile(recording):  # noqa: PTH110 - also of impossible names
            raise AudioError(f"{path}: is the recording itself; choose another path with --out or --filename")
        if exists and not overwrite:
            raise AudioError(f"{path}: already exists; use -f (overwrite=True) to replace it, or another --out")
