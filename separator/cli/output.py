"""Messages on standard output and standard error."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from separator.errors import reason


class OutputError(Exception):
    """Standard output cannot be written any more.

    Args:
        error: the error of the last write.

    Attributes:
        is_closed: whether its reader, such as `head`, closed it.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written ({reason(error)}); the stems are not affected")
        self.is_closed = isinstance(error, BrokenPipeError)


def print_line(text: str, to: TextIO | None = None) -> None:
    """Print a line on standard output.

    Args:
        text: the line.
        to: the original standard output, if `sys.stdout` is redirected. None (default) for `sys.stdout`.

    Raises:
        OutputError: if standard output cannot be written. Later lines are then discarded.
    """
    try:
        print(text, file=to, flush=True)
    except OSError as error:
        from separator.streaming import audio_outputs

        audio_outputs.discard_output(to)
        raise OutputError(error) from error


def warn(text: str) -> None:
    """Print a line on standard error. If standard error cannot be written, the work continues."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        from separator.streaming import audio_outputs

        with contextlib.suppress(OSError):
            audio_outputs.discard_output(sys.stderr)
