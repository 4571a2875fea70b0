"""Where stems go: the names of their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from separator.errors import AudioError, ConfigError, reason

DEFAULT = "{track}/{stem}.{ext}"


def fill_in(
    sources: Sequence[str], out: str | Path, filename: str, track: str, extension: str, overwrite: bool
) -> dict[str, Path]:
    """Name of each source -> where its stem goes.

    Raises:
        ConfigError: for a `filename` that cannot be filled in, or gives all stems one name.
        AudioError: if there is a file already that may not be replaced.
    """
    try:
        paths = {name: Path(out) / filename.format(track=track, stem=name, ext=extension) for name in sources}
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"filename {filename!r}: only {{track}}, {{stem}} and {{ext}} can be filled in") from error
    if len(set(paths.values())) < len(paths):
        raise ConfigError(f"filename {filename!r} gives all stems one name; put {{stem}} into it")
    for path in paths.values():
        try:
            exists, is_folder = path.exists(), path.is_dir()
        except OSError as error:
            raise AudioError(f"{path}: cannot be written ({reason(error)}); choose another place with --out") from error
        if is_folder:
            raise AudioError(f"{path}: is a folder; choose another place with --out")
        if exists and not overwrite:
            raise AudioError(f"{path}: already exists; use -f (overwrite=True) to replace it, or another --out")
    return paths
