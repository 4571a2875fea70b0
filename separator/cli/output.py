"""What is said on standard output."""

from __future__ import annotations

from typing import TextIO

from separator.errors import reason


class OutputError(Exception):
    """Standard output takes nothing any more."""


def say(text: str, to: TextIO | None = None) -> None:
    """Prints, and notices if that fails. `to`: standard output, where something else stands in its place now."""
    try:
        print(text, file=to, flush=True)
    except OSError as error:
        from separator import sinks

        sinks.give_up_standard_output()
        raise OutputError(
            f"standard output cannot be written ({reason(error)}); stems are where they belong"
        ) from error
