"""Errors that the user can fix, and checks of settings. The commands print them in one line, without a traceback."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

T = TypeVar("T")


class SeparatorError(Exception):
    """Base class of the errors below. The message says what was given, what was expected and what to do."""


class AudioError(SeparatorError, ValueError):
    """A recording or waveform that cannot be used, or stems that cannot be written."""


class CheckpointError(SeparatorError, ValueError):
    """A model file that is missing, damaged, of an unknown kind or from a newer version."""


class ConfigError(SeparatorError, ValueError):
    """A setting that does not exist or has an invalid value."""


class DataError(SeparatorError, ValueError):
    """A corpus or list of mixtures that cannot be used."""


class FleetError(SeparatorError, RuntimeError):
    """A failure of workers on other machines, after which the job cannot continue."""


class StreamError(SeparatorError, RuntimeError):
    """A stream that is used after its end, or a model that cannot stream."""


class TrainingError(SeparatorError, RuntimeError):
    """A failure after which training cannot continue."""


def reason(error: Exception) -> str:
    """Return the text of a library's error without the file name, for use in our own messages."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text. Messages of torch and of network libraries have many lines."""
    return (str(error) or type(error).__name__).splitlines()[0].strip()


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the name in `known` closest to `word`, or "" if no name is close."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raise `ConfigError` unless `value` is a whole number of at least `least` (default: 1)."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Raise `ConfigError` unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be true or false, got {value!r}")


def check_number(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    """Raise `ConfigError` unless `value` is a number from `least` to `most` (default: any number)."""
    if not _is_number(value) or not least <= value <= most:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number{_bounds(least, most)}, got {value!r}")


def check_range(name: str, value: object, least: float = -math.inf, most: float = math.inf) -> None:
    """Raise `ConfigError` unless `value` is two numbers from `least` to `most`, the lower number first."""
    pair = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(pair) != 2 or not all(map(_is_number, pair)) or not least <= pair[0] <= pair[1] <= most:
        raise ConfigError(f"{name} must be two numbers{_bounds(least, most)}, the lower one first, got {value!r}")


def check_names(name: str, value: object) -> None:
    """Raise `ConfigError` unless `value` is a list of one or more strings."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        example = value if isinstance(value, str) and value else "a,b"
        raise ConfigError(f"{name} must be a list of one or more names, such as [{example}], got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _bounds(least: float, most: float) -> str:
    if most < math.inf:
        return f" from {least:g} to {most:g}"
    return f" of at least {least:g}" if least > -math.inf else ""


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`.

    Raises:
        ConfigError: if the table has no such name. The message gives `kind`, the name and the known names.
    """
    if name not in table:
        known = ", ".join(map(repr, table))
        raise ConfigError(f"unknown {kind} {name!r}; choose one of {known}{suggestion(name, table)}")
    return table[name]
