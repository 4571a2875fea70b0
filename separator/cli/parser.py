"""The options of `separate`."""

from __future__ import annotations

import argparse

from separator import __version__

EXAMPLES = """examples:
  separate mix.wav                      stems/mix/speaker1.wav and speaker2.wav
  separate a.wav b.m4a --out voices     several files; the model is loaded once
  separate calls/ --skip-existing       a folder, at any depth; go on where it was stopped
  separate mix.wav -m runs/mine/best.safetensors
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
        help="a file with a recording in each line (or CSV, JSONL)",
    )
    options.add_argument("-o", "--out", default="stems", metavar="DIR", help="folder for the stems (default: stems)")
    options.add_argument(
        "-m",
        "--model",
        metavar="NAME",
        help="a model's name or checkpoint (default: default, with --stream default-causal)",
    )
    options.add_argument("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    options.add_argument(
        "--precision", default="auto", help="auto (the fastest here), float32 or bfloat16 (default: auto)"
    )
    options.add_argument(
        "--segment", type=float, metavar="SECONDS", help="longest piece separated at a time; less needs less memory"
    )
    options.add_argument("--overlap", type=float, metavar="FRACTION", help="how much neighbouring pieces share")
    options.add_argument(
        "--filename",
        default="{track}/{stem}.{ext}",
        metavar="TEMPLATE",
        help="name of a stem inside DIR (default: {track}/{stem}.{ext})",
    )
    depth = options.add_mutually_exclusive_group()
    depth.add_argument("--float32", action="store_true", help="write 32-bit float; by default the recording's format")
    depth.add_argument("--int24", action="store_true", help="write 24-bit integers")
    compressed = options.add_mutually_exclusive_group()
    compressed.add_argument("--flac", action="store_true", help="write FLAC")
    compressed.add_argument("--ogg", action="store_true", help="write Ogg Vorbis")
    options.add_argument("-f", "--force", action="store_true", help="replace files that are already there")
    options.add_argument("--skip-existing", action="store_true", help="leave out recordings whose stems are all there")
    options.add_argument(
        "--stream",
        action="store_true",
        help="separate FILE, - (standard input) or mic (mic:DEVICE) while it arrives; --out - is standard output",
    )
    options.add_argument(
        "--raw",
        metavar="RATE,CHANNELS,FORMAT",
        help="with --stream: what samples without a header are, such as 16000,1,s16 (u8 s16 s24 s32 f32 f64)",
    )
    options.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray: on all cores or GPUs of this machine or of the cluster of RAY_ADDRESS; goes on where it was stopped",
    )
    options.add_argument(
        "--workers", type=int, metavar="N", help="with ray: how many (default: one for each GPU, or core)"
    )
    options.add_argument("--cores", type=int, default=1, metavar="N", help="with ray: of each worker (default: 1)")
    options.add_argument("--list-models", action="store_true", help="list the models that come with it, and exit")
    options.add_argument("--json", action="store_true", help="print the results as JSON")
    options.add_argument("-v", "--verbose", action="store_true", help="say more about each file")
    options.add_argument("--version", action="version", version=f"separate {__version__}")
    return options
