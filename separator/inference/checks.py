"""Checks of the options of a separation: chunks, threads, stems."""

from __future__ import annotations

from collections.abc import Sequence

from separator import devices
from separator.errors import ConfigError, check_number, check_whole
from separator.models import ConvTasNet

SEGMENT_RANGE = (0.01, 86_400.0)
MAX_OVERLAP = 0.95
# The library behind torch's threads ends the process if the system cannot start all of them.
MAX_THREADS = 1024


def chosen_stems(names: Sequence[str], sources: Sequence[str], model: str) -> list[int]:
    """Return the indices of the chosen stems, in the model's order.

    Args:
        names: names of the chosen stems.
        sources: names of all stems of the model.
        model: name of the model, for error messages.

    Raises:
        ConfigError: if a name is unknown, or if there are no names.
    """
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in sources:
            raise ConfigError(f"stems: the model {model} has no {name!r}; expected some of {', '.join(sources)}")
    if not names:
        raise ConfigError(f"stems: no name was given; expected some of {', '.join(sources)}")
    return [number for number, name in enumerate(sources) if name in names]


def check_chunking(net: ConvTasNet, segment_seconds: float | None, overlap: float | None) -> None:
    """Check the chunk length and the overlap for a network.

    Args:
        net: the network.
        segment_seconds: chunk length in seconds. None if it was not given.
        overlap: overlap as a fraction of a chunk. None if it was not given.

    Raises:
        ConfigError: if a value is out of range, or if one was given for a network that can stream.
    """
    check_ranges(segment_seconds, overlap)
    for name, value in (("segment_seconds", segment_seconds), ("overlap", overlap)):
        if value is not None and net.can_stream:
            raise ConfigError(
                f"{name}={value}: a model that can stream processes a recording without chunks; leave it out"
            )


def check_threads(threads: int) -> None:
    """Check the number of threads. Raise `ConfigError` if it is out of range or more than a forked process can use."""
    check_whole("threads", threads)
    if threads > 1 and devices.is_forked():
        raise ConfigError(
            f"threads={threads}: this process was forked after its parent had loaded a model, so it has only 1 thread; "
            "start it by spawn or forkserver instead"
        )
    if threads > MAX_THREADS:
        raise ConfigError(f"threads must be at most {MAX_THREADS}, got {threads}; use the number of CPU cores")


def check_ranges(segment_seconds: float | None, overlap: float | None) -> None:
    """Check the ranges of the chunk length and the overlap, for any model. Raise `ConfigError` if one is outside."""
    if segment_seconds is not None:
        check_number("segment_seconds", segment_seconds, *SEGMENT_RANGE)
    if overlap is not None:
        check_number("overlap", overlap, 0, MAX_OVERLAP)
