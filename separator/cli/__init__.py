"""The command `separate`: arguments, messages and exit code. The separation is in `separator.inference.separation`.

Large packages are imported only after the arguments are parsed, so that `--help` is fast.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from separator.cli import files, stream
from separator.cli.output import OutputError, print_line, warn
from separator.cli.parser import parser
from separator.errors import SeparatorError
from separator.interrupts import Terminated, terminable

STOPPED = "stopped; the stems of the current recording were not written"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command-line arguments. None (default) for `sys.argv`.

    Returns:
        The exit code. 0 if every file was separated.
    """
    if sys.stderr is None:  # closed by the parent process; print would use standard output instead
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - open until the program ends
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names are bytes, and may not be valid text
        sys.stdout.reconfigure(errors="surrogateescape")
    options = parser().parse_args(arguments)
    try:
        if options.list_models:
            return _list_models(options)
        if options.stream:
            return stream.run(options)
        with terminable():
            return files.run(options)
    except OutputError as error:
        warn(f"error: {error}")
        return 1
    except SeparatorError as error:
        warn(f"error: {error}")
        return 2
    except KeyboardInterrupt:
        warn(STOPPED)
        return 128 + signal.SIGINT
    except Terminated as terminated:
        warn(STOPPED)
        return 128 + terminated.number


def _list_models(options: argparse.Namespace) -> int:
    """Print the available models as a table, or as JSON, and return the exit code."""
    from separator import zoo

    groups = {"bundled": zoo.bundled(), "downloadable": zoo.DOWNLOADABLE}
    if options.json:
        models = {
            name: known._asdict() | {"bundled": group == "bundled"}
            for group, table in groups.items()
            for name, known in table.items()
        }
        print_line(json.dumps(models, indent=2))
        return 0
    rows = [("model", "Hz", "stems", "streams", "MB", "licence", "published SI-SNRi")]
    for table in groups.values():
        for name, known in table.items():
            score = "" if known.score is None else f"{known.score:.1f} dB on "
            streams = "yes" if known.is_causal else "no"
            rows.append(
                (
                    name,
                    str(known.sample_rate),
                    ", ".join(known.sources),
                    streams,
                    f"{known.megabytes:.1f}",
                    known.licence,
                    score + known.measured_on,
                )
            )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print_line("\nUse hf:OWNER/NAME for any Conv-TasNet of separator, asteroid or SpeechBrain on the Hugging Face hub.")
    return 0
