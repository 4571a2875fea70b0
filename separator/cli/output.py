"""What is said on standard output and standard error."""

from __future__ import annotations

import contextlib
import sys
from typing import TextIO

from separator.errors import reason


class OutputError(Exception):
    """Standard output takes nothing any more; `is_closed` says whether its reader closed it, as `head` does."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output cannot be written ({reason(error)}); stems are where they belong")
        self.is_closed = isinstance(error, BrokenPipeError)


def say(text: str, to: TextIO | None = None) -> None:
    """Prints, and notices if that fails. `to`: standard output, where something else stands in its place now."""
    try:
        print(text, file=to, flush=True)
    except OSError as error:
        from separator.streaming import audio_outputs

        audio_outputs.give_up_standard_output(to)
        raise OutputError(error) from error


def warn(text: str) -> None:
    """Prints on standard error. Where nobody reads that any more, work goes on all the same."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        from separator.streaming import audio_outputs

        with contextlib.suppress(OSError):
            audio_outputs.give_up_standard_output(sys.stderr)
