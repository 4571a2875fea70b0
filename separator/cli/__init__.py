"""`separate`: parses, prints, sets the exit code. Everything else is in `separator.inference.separation`.

Nothing heavy is imported before the arguments are understood, so that `--help` is instant.
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
from separator.cli.output import OutputError, say, warn
from separator.cli.parser import parser
from separator.errors import SeparatorError
from separator.interrupts import Terminated, terminable

STOPPED = "stopped; the file at hand was not written"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 if every file was separated."""
    if sys.stderr is None:  # closed by whoever started this; print would take standard output instead
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the program runs
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files are bytes, and may be no text
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
    from separator import zoo

    groups = {"bundled": zoo.bundled(), "downloadable": zoo.DOWNLOADABLE}
    if options.json:
        models = {
            name: known._asdict() | {"bundled": group == "bundled"}
            for group, table in groups.items()
            for name, known in table.items()
        }
        say(json.dumps(models, indent=2))
        return 0
    rows = [("model", "rate", "separates", "streams", "MB", "licence", "SI-SNRi, as published")]
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
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    say("\nAlso hf:OWNER/NAME for any Conv-TasNet of separator, asteroid or SpeechBrain on the Hugging Face hub.")
    return 0
