"""What goes wrong in a way the user can mend. The command lines print these as one line, without a traceback."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class SeparatorError(Exception):
    """Base of the errors below. Its message says what came, what was wanted and what to do."""


class AudioError(SeparatorError, ValueError):
    """A recording or waveform that cannot be used, or stems that cannot be written."""


class CheckpointError(SeparatorError, ValueError):
    """A model file that is missing, damaged, of another kind or from a newer version."""


class ConfigError(SeparatorError, ValueError):
    """A setting that does not exist or has an impossible value."""


class DataError(SeparatorError, ValueError):
    """A corpus or list of mixtures that cannot be used."""


class FleetError(SeparatorError, RuntimeError):
    """Workers on other machines that cannot go on."""


class StreamError(SeparatorError, RuntimeError):
    """A stream used after its end, or a model that cannot stream."""


class TrainingError(SeparatorError, RuntimeError):
    """Training that cannot go on."""


def reason(error: Exception) -> str:
    """What a library's error on a file says beyond the file's name, to put into a message of our own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def first_line(error: BaseException) -> str:
    """An error in one line: torch and the libraries for networks have many lines to say."""
    return (str(error) or type(error).__name__).splitlines()[0].strip()


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message, "; did you mean 'x'?", for the nearest of `known`; empty if none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raises `ConfigError` unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raises `ConfigError` unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}")


def check_number(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    """Raises `ConfigError` unless `value` is a number from `least` to `most`."""
    if not _is_number(value) or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number{_bounds(least, most)}, got {value!r}")


def check_range(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    """Raises `ConfigError` unless `value` is two numbers from `least` to `most`, the lower one first."""
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(pair) != 2 or not all(map(_is_number, pair)) or not least <= pair[0] <= pair[1] <= most:
        raise ConfigError(f"{name} must be two numbers{_bounds(least, most)}, the lower one first, got {value!r}")


def check_names(name: str, value: object) -> None:
    """Raises `ConfigError` unless `value` is a list of one or more strings."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        example = value if isinstance(value, str) and value else "a,b"
        raise ConfigError(f"{name} must be a list of one name or more, such as [{example}], got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _bounds(least: float, most: float) -> str:
    if most < math.inf:
        return f" from {least:g} to {most:g}"
    return f" of at least {least:g}" if least > -math.inf else ""


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`. Raises `ConfigError` naming `kind`, the name that came and those that exist."""
    if name not in table:
        known = ", ".join(map(repr, table))
        raise ConfigError(f"unknown {kind} {name!r}; choose one of {known}{suggestion(name, table)}")
    return table[name]
