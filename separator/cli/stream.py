"""Run `separate --stream`: separate one source while it arrives."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from separator.cli.output import print_line, warn
from separator.cli.parser import parser, stem_names
from separator.errors import ConfigError, SeparatorError, StreamError
from separator.io import formats, stem_paths

if TYPE_CHECKING:
    from separator.inference.separation import Separator
    from separator.streaming.audio_inputs import RawFormat


def run(options: argparse.Namespace) -> int:
    """Separate one source while it arrives. Print the result and return the exit code."""
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
        print_line(json.dumps({"model": options.model, "files": [report]}, indent=2))
    if failure is not None:
        # 2 if the command itself was wrong, 1 if the audio could not be read or written.
        return 2 if isinstance(failure, (ConfigError, StreamError)) else 1
    _print_result(report, options)
    return 0


def _check(options: argparse.Namespace) -> None:
    """End the program if the options contradict each other, or are not valid with --stream."""
    if len(options.tracks) != 1:
        parser().error(f"got {len(options.tracks)} sources, but --stream separates one source; name one")
    if options.list:
        parser().error("--list is not valid with --stream, which separates one source; leave it out")
    if options.skip_existing:
        parser().error("--skip-existing is not valid with --stream; leave it out")
    if options.track or options.channels:
        parser().error("--track and --channels are not valid with --stream, which uses all channels; leave them out")
    if options.report:
        parser().error("--report is not valid with --stream, because a stream may have no end; leave it out")
    if any(getattr(options, suffix) for suffix in formats.COMPRESSED) or options.bitrate is not None:
        names = ", ".join(f"--{suffix}" for suffix in formats.COMPRESSED)
        parser().error(
            f"{names} and --bitrate are not valid with --stream, because such files are not valid before "
            "their end; leave them out to write WAV"
        )
    if options.engine == "ray" or options.workers is not None or options.cores != 1:
        parser().error("--engine ray, --workers and --cores are not valid with --stream; leave them out")
    if options.segment is not None or options.overlap is not None:
        parser().error("--segment and --overlap are not valid with --stream, which uses no chunks; leave them out")
    if options.shifts is not None:
        parser().error("--shifts is not valid with --stream, which separates the audio once; leave it out")
    if options.out == "-" and (options.force or options.filename != stem_paths.DEFAULT):
        parser().error("--filename and --force are not valid with --out - (standard output); leave them out")
    if options.json and options.out == "-":
        parser().error("--json and --out - both write to standard output; name a folder with --out")
    from separator.streaming import audio_inputs

    if options.raw is not None and audio_inputs.is_microphone(options.tracks[0]):
        parser().error("--raw is not valid for a microphone, whose format is known; leave it out")


def _separate_live(separator: Separator, raw: RawFormat | None, options: argparse.Namespace, report: dict) -> None:
    """Run the stream and add its results to `report`. If it fails, `report` still has the stems that were created."""
    from separator.io import audio
    from separator.streaming import audio_inputs, audio_outputs, run

    # Check all settings before waiting for audio.
    separator.stream()
    paths = {}
    if options.out != "-":
        name = audio_inputs.track_name(options.tracks[0])
        paths = stem_paths.fill_in(separator.sources, options.out, options.filename, name, "wav")
        stem_paths.check_free(paths.values(), options.force, Path(options.tracks[0]))
        for path in paths.values():
            if path.suffix.lower() != ".wav":
                raise ConfigError(f"{path}: --stream writes only WAV; end --filename in .{{ext}} or .wav")
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
            report["stems"] = sink.created
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


def _print_result(report: dict, options: argparse.Namespace) -> None:
    """Print the paths of the stems and warnings. With --verbose, also print the computing time and the latency."""
    if not options.json:
        for path in report["stems"].values():
            print_line(path)
        if report["missing_seconds"]:
            warn(
                f"  the end is missing: the audio was {report['missing_seconds']:.1f} s shorter than its header states"
            )
        if report["gaps"]:
            lost = f"samples of the microphone were lost {report['gaps']} times"
            warn(f"  {lost}, because this machine is too busy")
        if report["clipped_samples"]:
            clipped = f"{report['clipped_samples']} samples were clipped at full scale"
            warn(f"  {clipped}; use --float32 to keep them")
    if options.verbose:
        warn(
            f"  {report['seconds']:.1f} s, computed in {report['work_seconds']:.1f} s "
            f"(real-time factor {report['real_time_factor']:.3f}), latency {1e3 * report['latency_seconds']:.1f} ms"
        )
