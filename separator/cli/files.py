"""Run `separate` on files, one after the other, and report the result of each."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from separator.cli.output import OutputError, print_line, warn
from separator.cli.parser import parser, stem_names
from separator.errors import ConfigError, SeparatorError
from separator.io import formats

if TYPE_CHECKING:
    from separator.inference.separation import Separator
    from separator.io.find_recordings import Item


def run(options: argparse.Namespace) -> int:
    """Separate the recordings that the options name. Return the exit code."""
    _check(options)
    options.model = "default" if options.model is None else options.model
    standard_output, reports = sys.stdout, []
    is_lost = False
    try:
        with contextlib.closing(
            (_separate_with_ray if options.engine == "ray" else _separate_locally)(options)
        ) as separated:
            for report in separated:
                reports.append(report)
                try:
                    _print_report(report, options, standard_output)
                except OutputError as error:  # continue, because the stems are more important
                    is_lost = not error.is_closed
                    warn(_output_warning(error))
                    _print_report(report, options, standard_output)  # only for the warnings: the lines are discarded
    finally:  # after Ctrl-C, print the finished recordings
        if options.json and reports:
            print_line(json.dumps({"model": options.model, "files": reports}, indent=2))
    count = Counter(report["status"] for report in reports)
    if count["skipped"] and not options.json:
        warn(f"{count['skipped']} of {len(reports)} recordings skipped: their stems already exist")
    for status in ("failed", "partial"):
        if count[status] and len(reports) > 1:
            warn(f"{count[status]} of {len(reports)} files {status}")
    return 1 if count["failed"] or count["partial"] or is_lost else 0


def _output_warning(error: OutputError) -> str:
    if error.is_closed:
        return "standard output was closed by its reader; all stems are written, but the rest are not listed"
    return f"error: {error}, but the rest are not listed"


def _separate_locally(options: argparse.Namespace) -> Generator[dict]:
    from separator.inference.separation import Separator
    from separator.io import find_recordings, recording_parts

    items = find_recordings.find(options.tracks, [Path(name) for name in options.list], Path(options.out))
    separator = Separator(options.model, **_settings(options))
    _check_names(separator.sources, options)
    selection = recording_parts.PartSelection.parse(options.track, options.channels)
    yield from (
        _separate(separator, part, options) for item in items for part in recording_parts.split(item, selection)
    )


def _separate_with_ray(options: argparse.Namespace) -> Generator[dict]:
    from separator.inference import ray_jobs

    items = ray_jobs.find(options.tracks, [Path(name) for name in options.list], options.out)
    sources = ray_jobs.sources_of(options.model, _settings(options))
    _check_names(sources, options)
    job = ray_jobs.Job(
        options.model,
        sources,
        _settings(options),
        options.out,
        options.filename,
        _extension(options),
        _subtype(options),
        overwrite=options.force,
        bitrate=options.bitrate,
    )
    reports = []
    # Ray writes messages about its workers to standard output.
    with contextlib.redirect_stdout(sys.stderr):
        for report in ray_jobs.run(items, job, options.workers, options.cores):
            reports.append(report)
            yield report
    table = ray_jobs.write_failures(reports, options.out)
    if table is not None:
        warn(f"the failures are listed in {table}")


def _check_names(sources: Sequence[str], options: argparse.Namespace) -> None:
    """Raise `ConfigError` for a template that is wrong for every recording, before the first recording is read."""
    from separator.io import stem_files, stem_paths

    extension, subtype = _extension(options), _subtype(options)
    for path in stem_paths.fill_in(sources, options.out, options.filename, "track", extension).values():
        _, supported = stem_files.container_of(path, subtype or "PCM_16")
        if extension != "wav" and path.suffix.lower() != f".{extension}":
            raise ConfigError(f"--{extension}, but --filename gives {path.name}; end it in .{{ext}}")
        if subtype not in (None, supported):
            raise ConfigError(f"--filename gives {path.name}, which does not support {subtype}; end it in .wav")
        if options.bitrate is not None and path.suffix.lower() != ".mp3":
            raise ConfigError(f"--bitrate is for MP3, but the stems are written as {path.name}; add --mp3")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments for `Separator`. Options that were not given keep its defaults."""
    settings = {
        "device": options.device,
        "precision": options.precision,
        "shifts": options.shifts,
        "stems": stem_names(options),
        "segment_seconds": options.segment,
        "overlap": options.overlap,
        "threads": options.threads,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _extension(options: argparse.Namespace) -> str:
    return next((suffix for suffix in formats.COMPRESSED if getattr(options, suffix)), "wav")


def _subtype(options: argparse.Namespace) -> str | None:
    return "FLOAT" if options.float32 else "PCM_24" if options.int24 else None


def _check(options: argparse.Namespace) -> None:
    """End the program if the options contradict each other."""
    wrong = parser().error
    if not options.tracks and not options.list:
        wrong("no recording given; name at least one, such as: separate mix.wav")
    suffix = _extension(options)
    container = formats.CONTAINERS[suffix]
    for depth in ("int24", "float32"):
        if getattr(options, depth) and depth not in container.depths:
            why = f"supports only {', '.join(container.depths)}" if container.depths else "has no bit depth"
            wrong(f"--{suffix} given with --{depth}, but {container.label} {why}; leave out --{depth}")
    if options.force and options.skip_existing:
        wrong("--force replaces the files that --skip-existing keeps; use only one of them")
    if options.raw is not None:
        wrong("--raw is only valid with --stream; add --stream, or leave out --raw")
    if options.out == "":
        wrong("--out is empty; expected a folder, such as --out . for the current folder")
    if options.engine != "ray" and (urls := [track for track in [*options.tracks, options.out] if "://" in track]):
        wrong(f"{urls[0]}: URLs are only valid with --engine ray; add it")
    if "" in options.tracks:
        wrong("the name of a recording is empty; expected a file, a folder or a pattern")
    if options.engine != "ray" and (options.workers is not None or options.cores != 1):
        wrong("--workers and --cores are only valid with --engine ray; add it, or leave them out")
    if (options.workers is not None and options.workers < 1) or options.cores < 1:
        wrong("--workers and --cores must be whole numbers of at least 1")
    if options.engine == "ray" and (options.track or options.channels):
        wrong("--track and --channels are only valid with --engine local; leave them out")
    if options.engine == "ray" and options.threads is not None:
        wrong("--threads is only valid with --engine local; use --cores for the CPU cores of each Ray worker")
    if options.engine == "ray" and options.report:
        wrong("--report is only valid with --engine local; leave it out")
    if options.engine == "ray" and options.skip_existing:
        wrong("--skip-existing is only valid with --engine local; --engine ray always skips finished recordings")
    if options.out == "-":
        wrong("--out - (standard output) is only valid with --stream; name a folder with --out")
    from separator.streaming import audio_inputs

    for track in options.tracks:
        if (track == "-" or audio_inputs.is_microphone(track)) and not os.path.exists(track):  # noqa: PTH110 - also of impossible names
            wrong(f"{track} can only be read as a stream; add --stream")


def _separate(separator: Separator, item: Item, options: argparse.Namespace) -> dict:
    """Separate one file and return its report. A failure is also a report, so that the other files are separated."""
    from separator.io import stem_paths

    extension = _extension(options)
    bar = _progress_bar(separator, str(item.path), options)
    try:
        page = _report_path(item, options) if options.report else None
        if options.skip_existing:
            paths = stem_paths.fill_in(separator.sources, options.out, options.filename, item.track, extension)
            page = None if page is not None and page.exists() else page
            if page is None and all(path.exists() for path in paths.values()):
                return {
                    "path": str(item.path),
                    "status": "skipped",
                    "stems": {name: str(path) for name, path in paths.items()},
                }
        if page:
            stem_paths.check_free([page], options.force, Path(item.path))
        result = separator.separate_file(
            item.path,
            options.out,
            options.filename,
            extension,
            _subtype(options),
            overwrite=options.force,
            track=item.track,
            audio_track=item.audio_track,
            channels=item.channels,
            keep_existing=options.skip_existing,
            bitrate=options.bitrate,
        )
        if page:
            from separator.inference import report_page

            report_page.write(result, page)
    except SeparatorError as error:
        return {"path": str(item.path), "status": "failed", "error": str(error)}
    finally:
        bar.close()
    return result.report() | ({"report": str(page)} if page else {})


def _report_path(item: Item, options: argparse.Namespace) -> Path:
    """Return the path of a recording's HTML page, next to its stems."""
    from separator.io import stem_paths

    (path,) = stem_paths.fill_in(("report",), options.out, options.filename, item.track, "html").values()
    return path.with_suffix(".html")


def _print_report(report: dict, options: argparse.Namespace, standard_output: TextIO) -> None:
    """Print the result of a recording. With --json, print only problems, because the results are printed at the end."""
    if report["status"] == "failed":
        warn(f"error: {report['error']}")
    elif report["status"] != "skipped":
        if not options.json:
            _print_stems(report, standard_output)
        if options.verbose:
            warn(f"  {_details(report)}; model {options.model}")
    for note in report.get("notes", ()):
        warn(f"note: {report['path']}: {note}")
    if "damage" in report:
        warn(f"warning: {report['path']}: {report['damage']}; the stems contain this part")


def _print_stems(report: dict, standard_output: TextIO) -> None:
    kept = report.get("kept", [])
    for name, path in report["stems"].items():
        if name not in kept:
            print_line(path, standard_output)
    if "report" in report:
        print_line(report["report"], standard_output)
    for name in kept:
        warn(f"  {report['stems'][name]} already exists, and was kept")
    if report["gain_db"] < 0:
        warn(f"  all stems were lowered by {-report['gain_db']:.1f} dB, so that none clips")
    if not report["active"]:
        warn("  all stems are silent")
    elif silent := [name for name in report["stems"] if name not in report["active"]]:
        _warn_of_silent_stems(silent)


def _warn_of_silent_stems(silent: Sequence[str]) -> None:
    from separator.inference.file_result import is_speaker
    from separator.inference.separation import TOO_QUIET

    speakers = [name for name in silent if is_speaker(name)]
    if speakers:
        warn(f"  no separate voice in {', '.join(speakers)} ({TOO_QUIET})")
    # No warning for the background, because a recording without one is normal.
    if others := [name for name in silent if name not in (*speakers, "background")]:
        warn(f"  almost silent: {', '.join(others)} ({TOO_QUIET})")


def _details(report: dict) -> str:
    from separator.inference.separation import UNSURE

    unsure = sum(join["confidence"] < UNSURE for join in report["joins"])
    joined = f"{report['chunks']} chunk(s)" + (f", {unsure} of the joins uncertain" if unsure else "")
    rate = f"{report['sample_rate']} Hz"
    if report["model_sample_rate"] != report["sample_rate"]:
        rate += f" (resampled to {report['model_sample_rate']} Hz for the model, and back)"
    memory = "" if report["peak_megabytes"] is None else f", peak memory {report['peak_megabytes']} MB"
    return (
        f"{report['seconds']:.1f} s, {report['channels']} channel(s), {rate}, {report['subtype']}; "
        f"computed in {report['work_seconds']:.1f} s (real-time factor {report['real_time_factor']:.4f}), "
        f"{joined}{memory}; active: {', '.join(report['active']) or 'none'}; "
        f"residual: {report['residual_db']:.0f} dB"
    )


def _progress_bar(separator: Separator, track: str, options: argparse.Namespace):
    """Return a progress bar in seconds of audio. It is shown only on a terminal."""
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
