"""`separate`: parses, prints, sets the exit code. Everything else is in `separator.separation`.

Nothing heavy is imported before the arguments are understood, so that `--help` is instant.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separator import __version__
from separator.errors import ConfigError, SeparatorError, StreamError, reason

if TYPE_CHECKING:
    from separator.separation import FileResult, Separator
    from separator.sources import RawFormat

EXAMPLES = """examples:
  separate mix.wav                      stems/mix/speaker1.wav and speaker2.wav
  separate a.wav b.flac --out voices    several files; the model is loaded once
  separate mix.wav -m runs/mine/best.safetensors
  separate mix.wav --json               what happened, for machines
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
        "tracks", nargs="*", metavar="FILE", help="recordings: WAV, FLAC, OGG, MP3, AIFF, ...; with --stream: - or mic"
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
    options.add_argument("--flac", action="store_true", help="write FLAC")
    options.add_argument("-f", "--force", action="store_true", help="replace files that are already there")
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
    options.add_argument("--list-models", action="store_true", help="list the models that come with it, and exit")
    options.add_argument("--json", action="store_true", help="print the results as JSON")
    options.add_argument("-v", "--verbose", action="store_true", help="say more about each file")
    options.add_argument("--version", action="version", version=f"separate {__version__}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: 0 if every file was separated."""
    if sys.stderr is None:  # closed by whoever started this; print would take standard output instead
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the program runs
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files are bytes, and may be no text
        sys.stdout.reconfigure(errors="surrogateescape")
    options = parser().parse_args(arguments)
    try:
        return _run(options)
    except _OutputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the file at hand was not written", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.list_models:
        return _list_models(options)
    if not options.tracks:
        parser().error("name at least one recording, such as: separate mix.wav")
    if options.flac and options.float32:
        parser().error("FLAC holds integers: --flac goes with --int24, not with --float32")
    if options.raw is not None and not options.stream:
        parser().error("--raw says what --stream reads; recordings in files need it not")
    if "" in options.tracks:
        parser().error("the name of a recording is empty")
    if options.out == "-" and not options.stream:
        parser().error("only --stream writes to standard output; name a folder with --out")
    if options.stream:
        return _stream(options)
    from separator import sources

    for track in options.tracks:
        if (track == "-" or sources.is_microphone(track)) and not Path(track).exists():
            parser().error(f"{track} is read while it arrives: add --stream")
    from separator.separation import OVERLAP, SEGMENT_SECONDS, Separator

    options.model = options.model or "default"
    separator = Separator(
        options.model,
        options.device,
        segment_seconds=SEGMENT_SECONDS if options.segment is None else options.segment,
        overlap=OVERLAP if options.overlap is None else options.overlap,
    )
    reports = [_separate(separator, track, options) for track in options.tracks]
    failed = sum(report["status"] != "done" for report in reports)
    if options.json:
        _say(json.dumps({"model": options.model, "files": reports}, indent=2))
    if failed and len(reports) > 1:
        print(f"{failed} of {len(reports)} files failed", file=sys.stderr)
    return 1 if failed else 0


def _separate(separator: Separator, track: str, options: argparse.Namespace) -> dict:
    """Separates one file and says so; a failure is a report too, so that the others get their turn."""
    bar = _bar(separator, track, options)
    try:
        result = separator.separate_file(
            track,
            options.out,
            options.filename,
            extension="flac" if options.flac else "wav",
            subtype="FLOAT" if options.float32 else "PCM_24" if options.int24 else None,
            overwrite=options.force,
        )
    except SeparatorError as error:
        bar.close()
        print(f"error: {error}", file=sys.stderr)
        return {"path": track, "status": "failed", "error": str(error)}
    finally:
        bar.close()
    if not options.json:
        _print(result, options.verbose)
    return {
        "path": track,
        "status": "done",
        "stems": {name: str(path) for name, path in result.paths.items()},
        "seconds": round(result.seconds, 3),
        "work_seconds": round(result.work_seconds, 3),
        "real_time_factor": round(result.real_time_factor, 4),
        "sample_rate": result.sample_rate,
        "channels": result.channels,
        "subtype": result.subtype,
        "gain_db": round(result.gain_db, 2),
        "chunks": result.num_chunks,
    }


def _stream(options: argparse.Namespace) -> int:
    """Separates one source while it arrives, and says so."""
    if len(options.tracks) != 1:
        parser().error(f"--stream takes one source, got {len(options.tracks)}")
    if options.flac:
        parser().error("--stream writes WAV: a FLAC file is not valid before its end")
    if options.segment is not None or options.overlap is not None:
        parser().error("--stream works without pieces: --segment and --overlap mean nothing to it")
    if options.json and options.out == "-":
        parser().error("--json and --out - both want standard output: name a folder with --out")
    from separator import sources
    from separator.separation import Separator

    if options.raw is not None and sources.is_microphone(options.tracks[0]):
        parser().error("--raw says what samples in a pipe or file are; a microphone tells by itself")
    options.model = options.model or "default-causal"
    separator = Separator(options.model, options.device)
    raw = None if options.raw is None else sources.RawFormat.parse(options.raw)
    report: dict[str, Any] = {"path": options.tracks[0], "status": "done", "stems": {}}
    failure: SeparatorError | None = None
    try:
        _separate_live(separator, raw, options, report)
    except SeparatorError as error:
        failure = error
        print(f"error: {error}", file=sys.stderr)
        report |= {"status": "failed", "error": str(error)}
    report["stems"] = {name: str(path) for name, path in report["stems"].items()}
    if options.json:
        _say(json.dumps({"model": options.model, "files": [report]}, indent=2))
    if failure is not None:
        # Of a command that was wrong from the start, or of what came.
        return 2 if isinstance(failure, (ConfigError, StreamError)) else 1
    _print_live(report, options)
    return 0


def _separate_live(separator: Separator, raw: RawFormat | None, options: argparse.Namespace, report: dict) -> None:
    """Runs the stream and tells `report`, also which stems there are if it fails: they stay."""
    from separator import audio, live, sinks, sources, stem_paths

    # Whatever can be refused without audio is refused before any is waited for.
    separator.stream()
    paths = {}
    if options.out != "-":
        name = sources.track_name(options.tracks[0])
        paths = stem_paths.fill_in(separator.sources, options.out, options.filename, name, "wav", options.force)
        for path in paths.values():
            if path.suffix.lower() != ".wav":
                raise ConfigError(f"{path}: --stream writes WAV; end --filename in .{{ext}} or .wav")
    with (
        sources.open_source(options.tracks[0], raw, separator.sample_rate) as source,
        separator.stream(source.sample_rate) as stream,
    ):
        own = audio.subtype_of_stems(source.subtype)
        subtype = "FLOAT" if options.float32 else "PCM_24" if options.int24 else own
        sink: sinks.Sink
        if options.out == "-":
            channels = source.channels * len(separator.sources)
            sink = sinks.StandardOutput(source.sample_rate, channels, subtype, header=raw is None)
        else:
            sink = sinks.WavFiles(paths, source.sample_rate, source.channels, subtype, overwrite=options.force)
            report["stems"] = sink.appeared
        with contextlib.closing(sink):
            result = live.run(stream, source, sink)
        report |= {
            "seconds": round(result.seconds, 3),
            "work_seconds": round(result.work_seconds, 3),
            "real_time_factor": round(result.work_seconds / max(result.seconds, 1e-9), 4),
            "latency_seconds": round(stream.latency, 5),
            "sample_rate": source.sample_rate,
            "channels": source.channels,
            "subtype": subtype,
            "clipped_samples": 0 if subtype in audio.FLOAT_SUBTYPES else result.clipped,
            "gaps": result.gaps,
            "missing_seconds": round(source.missing_seconds, 3),
            "interrupted": result.interrupted,
        }


def _print_live(report: dict, options: argparse.Namespace) -> None:
    if not options.json:
        for path in report["stems"].values():
            _say(path)
        if report["missing_seconds"]:
            print(f"  the end is missing: {report['missing_seconds']:.1f} s less came than promised", file=sys.stderr)
        if report["gaps"]:
            lost = f"samples of the microphone were lost {report['gaps']} times"
            print(f"  {lost}: this machine is too busy", file=sys.stderr)
        if report["clipped_samples"]:
            cut = f"{report['clipped_samples']} samples were cut off at full scale"
            print(f"  {cut}; --float32 keeps them", file=sys.stderr)
    if options.verbose:
        print(
            f"  {report['seconds']:.1f} s, {report['work_seconds']:.1f} s of work "
            f"({report['real_time_factor']:.3f} a second), latency {1e3 * report['latency_seconds']:.1f} ms",
            file=sys.stderr,
        )


def _print(result: FileResult, verbose: bool) -> None:
    for path in result.paths.values():
        _say(str(path))
    if result.gain_db < 0:
        print(f"  all stems lowered by {-result.gain_db:.1f} dB so that none clips", file=sys.stderr)
    if verbose:
        print(
            f"  {result.seconds:.1f} s, {result.channels} channel(s), {result.sample_rate} Hz, {result.subtype}; "
            f"{result.work_seconds:.1f} s of work ({result.real_time_factor:.3f} a second), "
            f"{result.num_chunks} chunk(s), model {result.model}",
            file=sys.stderr,
        )


class _OutputError(Exception):
    """Standard output takes nothing any more."""


def _say(text: str) -> None:
    """Prints, and notices if that fails."""
    try:
        print(text, flush=True)
    except OSError as error:
        from separator import sinks

        sinks.give_up_standard_output()
        raise _OutputError(
            f"standard output cannot be written ({reason(error)}); stems are where they belong"
        ) from error


def _bar(separator: Separator, track: str, options: argparse.Namespace):
    """A progress bar in seconds of audio, on a terminal only."""
    from tqdm import tqdm

    shown = sys.stderr.isatty() and not options.json
    bar = tqdm(
        desc=track,
        unit="s",
        leave=False,
        disable=not shown,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s of audio, {remaining} left",
        total=1,
    )

    def callback(_: float, done: float, total: float) -> None:
        bar.total = total
        bar.update(done - bar.n)

    separator.callback = callback
    return bar


def _list_models(options: argparse.Namespace) -> int:
    from separator import checkpoint, zoo

    facts = {name: checkpoint.read_facts(path) for name, path in zoo.names().items()}
    if options.json:
        _say(json.dumps({name: _summary(item) for name, item in facts.items()}, indent=2))
        return 0
    for name, item in facts.items():
        _say(f"{name}: {', '.join(item['sources'])} at {item['sample_rate']} Hz")
    return 0


def _summary(facts: dict) -> dict:
    return {"sources": facts["sources"], "sample_rate": facts["sample_rate"], "architecture": facts["architecture"]}


if __name__ == "__main__":
    sys.exit(main())
