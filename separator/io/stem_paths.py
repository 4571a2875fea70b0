"""Where stems go: the names of their files."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PureWindowsPath

from separator.errors import AudioError, ConfigError, reason

DEFAULT = "{track}/{stem}.{ext}"
# What no name may hold on Windows, and the names of its devices.
WINDOWS_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]|[. ]$')
WINDOWS_DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10)),
}


def fill_in(sources: Sequence[str], out: str | Path, filename: str, track: str, extension: str) -> dict[str, Path]:
    """Name of each source -> where its stem goes.

    Raises:
        ConfigError: for a `filename` that cannot be filled in, gives all stems one name, or leaves `out`.
    """
    try:
        names = {name: filename.format(track=track, stem=name, ext=extension) for name in sources}
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"filename {filename!r}: only {{track}}, {{stem}} and {{ext}} can be filled in") from error
    for name in names.values():
        if (problem := problem_of(name)) is not None:
            raise ConfigError(f"filename {filename!r} gives {name!r}, which {problem}")
    if len({os.path.normpath(name) for name in names.values()}) < len(names):
        raise ConfigError(f"filename {filename!r} gives all stems one name; put {{stem}} into it")
    return {source: Path(out) / name for source, name in names.items()}


def problem_of(name: str, system: type[PurePath] = Path) -> str | None:
    """Why a name cannot be that of a file inside a folder, as the end of a sentence; None if it can.

    Args:
        name: with `/`, or what else separates folders on that system.
        system: whose paths are meant; this one's by default.
    """
    is_windows = issubclass(system, PureWindowsPath)
    inside = system((ntpath if is_windows else posixpath).normpath(name))
    # A path with a drive or a root replaces the folder that it is joined to, also where it is not absolute.
    if not inside.parts or inside.drive or inside.root or inside.parts[0] == os.pardir:
        return "is not inside the folder of --out"
    if is_windows:
        for part in inside.parts:
            if WINDOWS_FORBIDDEN.search(part) or part.partition(".")[0].upper() in WINDOWS_DEVICES:
                return f"Windows does not take ({part!r}); choose other names with --filename or in the list"
    return None


def check_free(paths: Iterable[Path], overwrite: bool, recording: Path) -> None:
    """Raises `AudioError` if there is a file already that may not be replaced: no folder, and never the recording."""
    for path in paths:
        try:
            exists, is_folder = path.exists(), path.is_dir()
        except OSError as error:
            raise AudioError(f"{path}: cannot be written ({reason(error)}); choose another place with --out") from error
        if is_folder:
            raise AudioError(f"{path}: is a folder; choose another place with --out")
        if exists and os.path.exists(recording) and path.samefile(recording):  # noqa: PTH110 - also of impossible names
            raise AudioError(f"{path}: is the recording itself; choose another place with --out or --filename")
        if exists and not overwrite:
            raise AudioError(f"{path}: already exists; use -f (overwrite=True) to replace it, or another --out")
