"""Command-line options of `separate`."""

from __future__ import annotations

import argparse

from separator import __version__
from separator.io import formats, stem_paths

EXAMPLES = """examples:
  separate mix.wav                      stems/mix/: speaker1.wav, speaker2.wav, background.wav
  separate a.wav b.m4a --out voices     several files; the model is loaded once
  separate calls/ --skip-existing       a folder, at any depth; skips finished recordings
  separate mix.wav -m runs/mine/best.safetensors
  separate mix.wav -m hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_16k
  separate mix.wav --json               results as JSON
  separate s3://bucket/calls --out s3://bucket/stems --engine ray      on a cluster
  arecord -f S16_LE -r 16000 | separate - --stream       separates standard input while it arrives
  separate mic --stream --out live      a microphone, until Ctrl-C
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(
        prog="separate",
        description="Separate the voices of a recording and write one file per voice.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (_add_inputs, _add_separation, _add_output, _add_streaming, _add_ray, _add_logging):
        add(options)
    return options


def _add_inputs(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "tracks",
        nargs="*",
        metavar="FILE",
        help="recordings (WAV, FLAC, OGG, MP3, M4A, MP4, ...), folders or patterns; with --stream also - or mic",
    )
    options.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="text file with one recording or folder per line, or a CSV, TSV or JSONL file; may be repeated",
    )


def _add_separation(options: argparse.ArgumentParser) -> None:
    how = options.add_argument_group("separation options")
    how.add_argument(
        "-m",
        "--model",
        metavar="NAME",
        help="a model name from --list-models, hf:OWNER/NAME, or the path of a checkpoint "
        "(default: default, with --stream default-causal)",
    )
    how.add_argument(
        "-d",
        "--device",
        default="auto",
        help="auto (a GPU if there is one), cpu, cuda, cuda:1 or mps (default: auto)",
    )
    how.add_argument(
        "--precision",
        default="auto",
        help="precision of matrix multiplications: auto (the fastest that the hardware supports), float32 or bfloat16 "
        "(default: auto)",
    )
    how.add_argument(
        "--shifts",
        type=int,
        metavar="N",
        help="test-time augmentation: average N passes, each shifted by a fraction of a frame. Better quality, but N "
        "times slower (default: 1)",
    )
    how.add_argument(
        "--segment",
        type=float,
        metavar="SECONDS",
        help="chunk length in seconds; a lower value needs less memory (default: 12)",
    )
    how.add_argument(
        "--overlap",
        type=float,
        metavar="FRACTION",
        help="overlap of neighbouring chunks, as a fraction of the chunk length (default: 0.25)",
    )
    how.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of CPU threads (default: torch's choice, one per core)",
    )
    how.add_argument(
        "--stems",
        metavar="NAME,NAME",
        help="stems to write, such as speaker1,speaker2 (default: all stems of the model)",
    )
    how.add_argument(
        "--track",
        metavar="N|all",
        help="audio track of a video, counted from 1, or 'all' for each track on its own (default: the best track)",
    )
    how.add_argument(
        "--channels",
        metavar="N,N|separate",
        help="channels to separate, counted from 1, or 'separate' for each channel on its own, for example for a "
        "call with one person per channel (default: all)",
    )


def _add_output(options: argparse.ArgumentParser) -> None:
    where = options.add_argument_group("output files", "By default, stems are WAV with the recording's sample format.")
    where.add_argument("-o", "--out", default="stems", metavar="DIR", help="folder for the stems (default: stems)")
    where.add_argument(
        "--filename",
        default=stem_paths.DEFAULT,
        metavar="TEMPLATE",
        help=f"template of the path of a stem inside DIR (default: {stem_paths.DEFAULT})",
    )
    depth = where.add_mutually_exclusive_group()
    depth.add_argument("--float32", action="store_true", help="write 32-bit float")
    depth.add_argument("--int24", action="store_true", help="write 24-bit integers")
    compressed = where.add_mutually_exclusive_group()
    for suffix, container in formats.COMPRESSED.items():
        compressed.add_argument(f"--{suffix}", action="store_true", help=f"write {container.label}")
    where.add_argument(
        "--bitrate",
        type=int,
        metavar="KBPS",
        help="mean bit rate of --mp3 in kbit/s (default: 128, or less if MP3 has a lower maximum at the sample rate)",
    )
    where.add_argument("-f", "--force", action="store_true", help="replace existing files")
    where.add_argument("--skip-existing", action="store_true", help="keep existing files, and write only missing files")


def _add_streaming(options: argparse.ArgumentParser) -> None:
    stream = options.add_argument_group("streaming")
    stream.add_argument(
        "--stream",
        action="store_true",
        help="separate FILE, - (standard input) or mic (mic:DEVICE) while the audio arrives; --out - writes to "
        "standard output",
    )
    stream.add_argument(
        "--raw",
        metavar="RATE,CHANNELS,FORMAT",
        help="format of samples without a header, such as 16000,1,s16; the rate is in Hz, and the format is u8, s16, "
        "s24, s32, f32 or f64 (default: read the header)",
    )


def _add_ray(options: argparse.ArgumentParser) -> None:
    many = options.add_argument_group("many recordings")
    many.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="local: in this process; ray: on all cores or GPUs of this machine or of the cluster at RAY_ADDRESS; "
        "a new run skips finished recordings (default: local)",
    )
    many.add_argument(
        "--workers", type=int, metavar="N", help="number of Ray workers (default: one per GPU, or per core)"
    )
    many.add_argument("--cores", type=int, default=1, metavar="N", help="CPU cores of each Ray worker (default: 1)")


def _add_logging(options: argparse.ArgumentParser) -> None:
    logging = options.add_argument_group("information and logging")
    logging.add_argument("--list-models", action="store_true", help="list the available models and exit")
    logging.add_argument(
        "--report",
        action="store_true",
        help="write an HTML page with waveforms, spectrograms and players next to the stems",
    )
    logging.add_argument("--json", action="store_true", help="print the results as JSON")
    logging.add_argument("-v", "--verbose", action="store_true", help="print more details about each file")
    logging.add_argument("--version", action="version", version=f"separate {__version__}")


def stem_names(options: argparse.Namespace) -> list[str] | None:
    """Return the names in `--stems`, or None for all stems."""
    return None if options.stems is None else [name.strip() for name in options.stems.split(",")]
