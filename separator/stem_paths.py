"""Where stems go: the names of their files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from separator.errors import AudioError, ConfigError, reason

DEFAULT = "{track}/{stem}.{ext}"


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
        inside = Path(os.path.normpath(name))
        if not inside.parts or inside.is_absolute() or inside.parts[0] == os.pardir:
            raise ConfigError(f"filename {filename!r} gives {name!r}, which is not inside the folder of --out")
    if len({os.path.normpath(name) for name in names.values()}) < len(names):
        raise ConfigError(f"filename {filename!r} gives all stems one name; put {{stem}} into it")
    return {source: Path(out) / name for source, name in names.items()}


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
