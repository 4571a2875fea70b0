"""What goes wrong in a way the user can mend. The command lines print these as one line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
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


class StreamError(SeparatorError, RuntimeError):
    """A stream used after its end, or a model that cannot stream."""


class TrainingError(SeparatorError, RuntimeError):
    """Training that cannot go on."""


def reason(error: Exception) -> str:
    """What a library's error on a file says beyond the file's name, to put into a message of our own."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rsplit(": ", 1)[-1].strip().rstrip(".")


def suggestion(word: str, known: Iterable[str]) -> str:
    """The end of a message, "; did you mean 'x'?", for the nearest of `known`; empty if none is near."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Raises `ConfigError` unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, got {value!r}")


def choose(kind: str, name: str, table: Mapping[str, T]) -> T:
    """`table[name]`. Raises `ConfigError` naming `kind`, the name that came and those that exist."""
    if name not in table:
        known = ", ".join(map(repr, table))
        raise ConfigError(f"unknown {kind} {name!r}; choose one of {known}{suggestion(name, table)}")
    return table[name]
