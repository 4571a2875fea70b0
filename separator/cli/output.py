"""What is said on standard output."""

from __future__ import annotations

from separator.errors import reason


class OutputError(Exception):
    """Standard output takes nothing any more."""


def say(text: str) -> None:
    """Prints, and notices if that fails."""
    try:
        print(text, flush=True)
    except OSError as error:
        from separator import sinks

        sinks.give_up_standard_output()
        raise OutputError(
            f"standard output cannot be written ({reason(error)}); stems are where they belong"
        ) from error
