"""What can be asked of a model: pieces, threads, stems."""

from __future__ import annotations

from collections.abc import Sequence

from separator import devices
from separator.errors import ConfigError, check_number, check_whole
from separator.models import ConvTasNet

SEGMENT_RANGE = (0.01, 86_400.0)
MAX_OVERLAP = 0.95
# The library that runs them ends the process where the system does not give so many.
MAX_THREADS = 1024


def chosen_stems(names: Sequence[str], sources: Sequence[str], model: str) -> list[int]:
    """Numbers of the stems of these names, in the model's order.

    Args:
        names: of stems that are wanted.
        sources: names of all stems of the model.
        model: its name, for errors.

    Raises:
        ConfigError: if there is no such stem, or no name at all.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in sources:
            raise ConfigError(f"stems: the model {model} has no {name!r}; expected some of {', '.join(sources)}")
    if not names:
        raise ConfigError(f"stems: no name was given; expected some of {', '.join(sources)}")
    return [number for number, name in enumerate(sources) if name in names]


def check_pieces(net: ConvTasNet, segment_seconds: float | None, overlap: float | None) -> None:
    """Raises `ConfigError` for lengths of pieces that cannot be, or that mean nothing to a network.

    None stands for what is not asked for.
    """
    check_ranges(segment_seconds, overlap)
    for name, value in (("segment_seconds", segment_seconds), ("overlap", overlap)):
        if value is not None and net.can_stream:
            raise ConfigError(f"{name}={value}: a model that can stream takes a recording without pieces; leave it out")


def check_threads(threads: int) -> None:
    """Raises `ConfigError` for a number of threads that cannot be."""
    check_whole("threads", threads)
    if threads > 1 and devices.is_forked():
        raise ConfigError(
            f"threads={threads}: this process was forked from one that had computed, and has 1; start it by spawn or "
            "forkserver instead"
        )
    if threads > MAX_THREADS:
        raise ConfigError(f"threads must be at most {MAX_THREADS}, got {threads}; as many as there are cores are best")


def check_ranges(segment_seconds: float | None, overlap: float | None) -> None:
    """Raises `ConfigError` for lengths of pieces that no model takes."""
    if segment_seconds is not None:
        check_number("segment_seconds", segment_seconds, *SEGMENT_RANGE)
    if overlap is not None:
        check_number("overlap", overlap, 0, MAX_OVERLAP)
