"""`separate --stream`: one source is separated while it arrives."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separator.cli.output import say, warn
from separator.cli.parser import parser, stem_names
from separator.errors import ConfigError, SeparatorError, StreamError
from separator.io import stem_paths

if TYPE_CHECKING:
    from separator.inference.separation import Separator
    from separator.streaming.audio_inputs import RawFormat


def run(options: argparse.Namespace) -> int:
    """Separates one source while it arrives, prints what became of it, and returns the exit code."""
    _check(options)
    from separator.inference.separation import Separator
    from separator.streaming import audio_inputs

    options.model = options.model or "default-causal"
    separator = Separator(
        options.model, options.device, options.precision, threads=options.threads, stems=stem_names(options)
    )
    raw = None if options.raw is None else audio_inputs.RawFormat.parse(options.raw)
    report: dict[str, Any] = {"path": options.tracks[0], "status": "done", "stems": {}}
    failure: SeparatorError | None = None
    try:
        _separate_live(separator, raw, options, report)
    except SeparatorError as error:
        failure = error
        warn(f"error: {error}")
        report |= {"status": "failed", "error": str(error)}
    report["stems"] = {name: str(path) for name, path in report["stems"].items()}
    if options.json:
        say(json.dumps({"model": options.model, "files": [report]}, indent=2))
    if failure is not None:
        # Of a command that was wrong from the start, or of what came.
        return 2 if isinstance(failure, (ConfigError, StreamError)) else 1
    _print_live(report, options)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Ends the program if the options do not go together, or not with --stream."""
    if len(options.tracks) != 1:
        parser().error(f"--stream takes one source, got {len(options.tracks)}")
    if options.list:
        parser().error("--stream takes one source; a --list is for recordings in files")
    if options.skip_existing:
        parser().error("--stream does not know what is there; --skip-existing is for recordings in files")
    if options.track or options.channels:
        parser().error("--stream separates all that arrives; --track and --channels are for recordings in files")
    if options.report:
        parser().error("--stream writes what may have no end; --report is for recordings in files")
    if options.flac or options.ogg or options.mp3 or options.bitrate is not None:
        parser().error("--stream writes WAV: a FLAC, Ogg or MP3 file is not valid before its end")
    if options.engine == "ray" or options.workers is not None or options.cores != 1:
        parser().error("--stream runs in this process: --engine ray, --workers and --cores are for recordings in files")
    if options.segment is not None or options.overlap is not None:
        parser().error("--stream works without pieces: --segment and --overlap mean nothing to it")
    if options.shifts is not None:
        parser().error("--stream separates what arrives once; --shifts is for recordings in files")
    if options.out == "-" and (options.force or options.filename != stem_paths.DEFAULT):
        parser().error("--out - is standard output: --filename and --force are for stems in a folder")
    if options.json and options.out == "-":
        parser().error("--json and --out - both want standard output: name a folder with --out")
    from separator.streaming import audio_inputs

    if options.raw is not None and audio_inputs.is_microphone(options.tracks[0]):
        parser().error("--raw says what samples in a pipe or file are; a microphone tells by itself")


def _separate_live(separator: Separator, raw: RawFormat | None, options: argparse.Namespace, report: dict) -> None:
    """Runs the stream and tells `report`, also which stems there are if it fails: they stay."""
    from separator.io import audio
    from separator.streaming import audio_inputs, audio_outputs, run

    # Whatever can be refused without audio is refused before any is waited for.
    separator.stream()
    paths = {}
    if options.out != "-":
        name = audio_inputs.track_name(options.tracks[0])
        paths = stem_paths.fill_in(separator.sources, options.out, options.filename, name, "wav")
        stem_paths.check_free(paths.values(), options.force, Path(options.tracks[0]))
        for path in paths.values():
            if path.suffix.lower() != ".wav":
                raise ConfigError(f"{path}: --stream writes WAV; end --filename in .{{ext}} or .wav")
    with (
        audio_inputs.open_source(options.tracks[0], raw, separator.sample_rate) as source,
        separator.stream(source.sample_rate) as stream,
    ):
        own = audio.subtype_of_stems(source.subtype)
        subtype = "FLOAT" if options.float32 else "PCM_24" if options.int24 else own
        sink: audio_outputs.Sink
        if options.out == "-":
            channels = source.channels * len(separator.sources)
            sink = audio_outputs.StandardOutput(source.sample_rate, channels, subtype, header=raw is None)
        else:
            sink = audio_outputs.WavFiles(paths, source.sample_rate, source.channels, subtype, overwrite=options.force)
            report["stems"] = sink.appeared
        with contextlib.closing(sink):
            result = run.run(stream, source, sink)
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
            say(path)
        if report["missing_seconds"]:
            warn(f"  the end is missing: {report['missing_seconds']:.1f} s less came than promised")
        if report["gaps"]:
            lost = f"samples of the microphone were lost {report['gaps']} times"
            warn(f"  {lost}: this machine is too busy")
        if report["clipped_samples"]:
            cut = f"{report['clipped_samples']} samples were cut off at full scale"
            warn(f"  {cut}; --float32 keeps them")
    if options.verbose:
        warn(
            f"  {report['seconds']:.1f} s, {report['work_seconds']:.1f} s of work "
            f"({report['real_time_factor']:.3f} a second), latency {1e3 * report['latency_seconds']:.1f} ms"
        )
