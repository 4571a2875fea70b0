"""The options of `separate`."""

from __future__ import annotations

import argparse

from separator import __version__
from separator.io import stem_paths

EXAMPLES = """examples:
  separate mix.wav                      stems/mix/speaker1.wav and speaker2.wav
  separate a.wav b.m4a --out voices     several files; the model is loaded once
  separate calls/ --skip-existing       a folder, at any depth; go on where it was stopped
  separate mix.wav -m runs/mine/best.safetensors
  separate mix.wav -m hf:JorisCos/ConvTasNet_Libri2Mix_sepclean_16k
  separate mix.wav --json               what happened, for machines
  separate s3://bucket/calls --out s3://bucket/stems --engine ray      on a cluster
  arecord -f S16_LE -r 16000 | separate - --stream       stems of what arrives, while it arrives
  separate mic --stream --out live      a microphone, until Ctrl-C
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="separate",
        description="Writes one file for each voice of a recording in which voices overlap.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for add in (_add_what, _add_how, _add_where, _add_while_it_arrives, _add_many, _add_told):
        add(options)
    return options


def _add_what(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "tracks",
        nargs="*",
        metavar="FILE",
        help="recordings, folders of them or patterns: WAV, FLAC, OGG, MP3, M4A, MP4, ...; with --stream: - or mic",
    )
    options.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="a file with a recording or folder in each line (or CSV, TSV, JSONL)",
    )


def _add_how(options: argparse.ArgumentParser) -> None:
    how = options.add_argument_group("how it is separated")
    how.add_argument(
        "-m",
        "--model",
        metavar="NAME",
        help="one of --list-models, hf:OWNER/NAME, or a checkpoint (default: default, with --stream default-causal)",
    )
    how.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    how.add_argument("--precision", default="auto", help="auto (the fastest here), float32 or bfloat16 (default: auto)")
    how.add_argument(
        "--shifts",
        type=int,
        metavar="N",
        help="separate N times, shifted by parts of a frame, and take the mean: better, N times as long (default: 1)",
    )
    how.add_argument(
        "--segment",
        type=float,
        metavar="SECONDS",
        help="longest piece separated at a time; less needs less memory (default: 12)",
    )
    how.add_argument(
        "--overlap", type=float, metavar="FRACTION", help="how much neighbouring pieces share (default: 0.25)"
    )
    how.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the processor that are used (default: as many as torch chooses, one for each core)",
    )
    how.add_argument(
        "--stems",
        metavar="NAME,NAME",
        help="stems that are written, such as speaker1,speaker2 (default: all of the model's)",
    )
    how.add_argument(
        "--track",
        metavar="N|all",
        help="which audio track of a video, from 1 on, or each by itself (default: the best one)",
    )
    how.add_argument(
        "--channels",
        metavar="N,N|separate",
        help="which channels, from 1 on, or each by itself, as for a call with one person in each (default: all)",
    )


def _add_where(options: argparse.ArgumentParser) -> None:
    where = options.add_argument_group("where the stems go, and in which format (by default the recording's own)")
    where.add_argument("-o", "--out", default="stems", metavar="DIR", help="folder for the stems (default: stems)")
    where.add_argument(
        "--filename",
        default=stem_paths.DEFAULT,
        metavar="TEMPLATE",
        help=f"name of a stem inside DIR (default: {stem_paths.DEFAULT})",
    )
    depth = where.add_mutually_exclusive_group()
    depth.add_argument("--float32", action="store_true", help="write 32-bit float")
    depth.add_argument("--int24", action="store_true", help="write 24-bit integers")
    compressed = where.add_mutually_exclusive_group()
    compressed.add_argument("--flac", action="store_true", help="write FLAC")
    compressed.add_argument("--ogg", action="store_true", help="write Ogg Vorbis")
    compressed.add_argument("--mp3", action="store_true", help="write MP3")
    where.add_argument(
        "--bitrate",
        type=int,
        metavar="KBPS",
        help="mean bit rate of --mp3, kbit/s (default: 128, or the highest at the recording's sample rate)",
    )
    where.add_argument("-f", "--force", action="store_true", help="replace files that are already there")
    where.add_argument(
        "--skip-existing", action="store_true", help="keep files that are already there, and write what is missing"
    )


def _add_while_it_arrives(options: argparse.ArgumentParser) -> None:
    stream = options.add_argument_group("while it arrives")
    stream.add_argument(
        "--stream",
        action="store_true",
        help="separate FILE, - (standard input) or mic (mic:DEVICE) while it arrives; --out - is standard output",
    )
    stream.add_argument(
        "--raw",
        metavar="RATE,CHANNELS,FORMAT",
        help="what samples without a header are, such as 16000,1,s16 (u8 s16 s24 s32 f32 f64)",
    )


def _add_many(options: argparse.ArgumentParser) -> None:
    many = options.add_argument_group("many recordings")
    many.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray: on all cores or GPUs of this machine or of the cluster of RAY_ADDRESS; goes on where it was stopped "
        "(default: local)",
    )
    many.add_argument("--workers", type=int, metavar="N", help="of ray, how many (default: one for each GPU, or core)")
    many.add_argument("--cores", type=int, default=1, metavar="N", help="of each worker of ray (default: 1)")


def _add_told(options: argparse.ArgumentParser) -> None:
    told = options.add_argument_group("what is said")
    told.add_argument("--list-models", action="store_true", help="list the models that there are, and exit")
    told.add_argument(
        "--report", action="store_true", help="write an HTML page with pictures and players beside the stems"
    )
    told.add_argument("--json", action="store_true", help="print the results as JSON")
    told.add_argument("-v", "--verbose", action="store_true", help="say more about each file")
    told.add_argument("--version", action="version", version=f"separate {__version__}")


def stem_names(options: argparse.Namespace) -> list[str] | None:
    """What `--stems` names; None for all."""
    return None if options.stems is None else [name.strip() for name in options.stems.split(",")]
