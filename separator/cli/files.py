"""`separate` on files: one after the other, and what became of each."""

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

from separator.cli.output import OutputError, say, warn
from separator.cli.parser import parser, stem_names
from separator.errors import ConfigError, SeparatorError

if TYPE_CHECKING:
    from separator.inference.separation import Separator
    from separator.io.find_recordings import Item


def run(options: argparse.Namespace) -> int:
    """Separates what the options name and returns the exit code."""
    _check(options)
    options.model = "default" if options.model is None else options.model
    standard_output, reports = sys.stdout, []
    is_lost = False
    try:
        with contextlib.closing((_with_ray if options.engine == "ray" else _here)(options)) as separated:
            for report in separated:
                reports.append(report)
                try:
                    _tell(report, options, standard_output)
                except OutputError as error:  # the stems matter more
                    is_lost = not error.is_closed
                    warn(_without_output(error))
                    _tell(report, options, standard_output)  # which goes nowhere now; the warnings still do
    finally:  # also of what was done before Ctrl-C
        if options.json and reports:
            say(json.dumps({"model": options.model, "files": reports}, indent=2))
    count = Counter(report["status"] for report in reports)
    if count["skipped"] and not options.json:
        warn(f"{count['skipped']} of {len(reports)} recordings left out: their stems are there")
    for status in ("failed", "partial"):
        if count[status] and len(reports) > 1:
            warn(f"{count[status]} of {len(reports)} files {status}")
    return 1 if count["failed"] or count["partial"] or is_lost else 0


def _without_output(error: OutputError) -> str:
    if error.is_closed:
        return "standard output was closed by its reader; all stems are written, but no longer listed"
    return f"error: {error}, but no longer listed"


def _here(options: argparse.Namespace) -> Generator[dict]:
    from separator.inference.separation import Separator
    from separator.io import find_recordings, recording_parts

    items = find_recordings.find(options.tracks, [Path(name) for name in options.list], Path(options.out))
    separator = Separator(options.model, **_settings(options))
    _check_names(separator.sources, options)
    chosen = recording_parts.Choice.parse(options.track, options.channels)
    yield from (_separate(separator, part, options) for item in items for part in recording_parts.of(item, chosen))


def _with_ray(options: argparse.Namespace) -> Generator[dict]:
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
    # Ray tells on standard output what happens to its workers.
    with contextlib.redirect_stdout(sys.stderr):
        for report in ray_jobs.run(items, job, options.workers, options.cores):
            reports.append(report)
            yield report
    table = ray_jobs.write_failures(reports, options.out)
    if table is not None:
        warn(f"failures are listed in {table}")


def _check_names(sources: Sequence[str], options: argparse.Namespace) -> None:
    """Raises `ConfigError` for a template that is wrong for any recording, before the first of them is read."""
    from separator.io import stem_files, stem_paths

    extension, subtype = _extension(options), _subtype(options)
    for path in stem_paths.fill_in(sources, options.out, options.filename, "track", extension).values():
        _, held = stem_files.container_of(path, subtype or "PCM_16")
        if extension != "wav" and path.suffix.lower() != f".{extension}":
            raise ConfigError(f"--{extension}, but --filename gives {path.name}; end it in .{{ext}}")
        if subtype not in (None, held):
            raise ConfigError(f"--filename gives {path.name}, which does not hold {subtype}; end it in .wav")
        if options.bitrate is not None and path.suffix.lower() != ".mp3":
            raise ConfigError(f"--bitrate is for MP3, and the stems are written as {path.name}; add --mp3")


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Arguments of `Separator`; what is not given is left to it."""
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
    return next((name for name in ("flac", "ogg", "mp3") if getattr(options, name)), "wav")


def _subtype(options: argparse.Namespace) -> str | None:
    return "FLOAT" if options.float32 else "PCM_24" if options.int24 else None


def _check(options: argparse.Namespace) -> None:
    """Ends the program if the options do not go together."""
    wrong = parser().error
    if not options.tracks and not options.list:
        wrong("name at least one recording, such as: separate mix.wav")
    if options.flac and options.float32:
        wrong("FLAC holds integers: --flac goes with --int24, not with --float32")
    if options.ogg and (options.float32 or options.int24):
        wrong("Ogg Vorbis has no bits for each sample: --ogg goes without --float32 and --int24")
    if options.mp3 and (options.float32 or options.int24):
        wrong("MP3 has no bits for each sample: --mp3 goes without --float32 and --int24")
    if options.force and options.skip_existing:
        wrong("--force replaces what --skip-existing keeps; give one of them")
    if options.raw is not None:
        wrong("--raw says what --stream reads; recordings in files need it not")
    if options.out == "":
        wrong("the name of the folder for the stems is empty; --out . is this one")
    if options.engine != "ray" and (urls := [track for track in [*options.tracks, options.out] if "://" in track]):
        wrong(f"{urls[0]}: URLs are for --engine ray")
    if "" in options.tracks:
        wrong("the name of a recording is empty")
    if options.engine != "ray" and (options.workers is not None or options.cores != 1):
        wrong("--workers and --cores are for --engine ray")
    if (options.workers is not None and options.workers < 1) or options.cores < 1:
        wrong("--workers and --cores are whole numbers from 1 on")
    if options.engine == "ray" and (options.track or options.channels):
        wrong("--track and --channels are for --engine local")
    if options.engine == "ray" and options.threads is not None:
        wrong("--threads is for one process; --cores says how many each worker of ray has")
    if options.engine == "ray" and options.report:
        wrong("--report is for --engine local; see where the stems are")
    if options.engine == "ray" and options.skip_existing:
        wrong("--engine ray leaves out what is finished by itself; --skip-existing is not needed")
    if options.out == "-":
        wrong("only --stream writes to standard output; name a folder with --out")
    from separator.streaming import audio_inputs

    for track in options.tracks:
        if (track == "-" or audio_inputs.is_microphone(track)) and not os.path.exists(track):  # noqa: PTH110 - also of impossible names
            wrong(f"{track} is read while it arrives: add --stream")


def _separate(separator: Separator, item: Item, options: argparse.Namespace) -> dict:
    """Separates one file; a failure is a report too, so that the others get their turn."""
    from separator.io import stem_paths

    extension = _extension(options)
    bar = _bar(separator, str(item.path), options)
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
    """Where the page of a recording goes: among its stems."""
    from separator.io import stem_paths

    (path,) = stem_paths.fill_in(("report",), options.out, options.filename, item.track, "html").values()
    return path.with_suffix(".html")


def _tell(report: dict, options: argparse.Namespace, standard_output: TextIO) -> None:
    """Says what became of a recording; with --json only what went wrong, since the rest comes at the end."""
    if report["status"] == "failed":
        warn(f"error: {report['error']}")
    elif report["status"] != "skipped":
        if not options.json:
            _tell_stems(report, standard_output)
        if options.verbose:
            warn(f"  {_details(report)}; model {options.model}")
    for note in report.get("notes", ()):
        warn(f"note: {report['path']}: {note}")
    if "damage" in report:
        warn(f"warning: {report['path']}: {report['damage']}; the stems hold that much")


def _tell_stems(report: dict, standard_output: TextIO) -> None:
    kept = report.get("kept", [])
    for name, path in report["stems"].items():
        if name not in kept:
            say(path, standard_output)
    if "report" in report:
        say(report["report"], standard_output)
    for name in kept:
        warn(f"  {report['stems'][name]} was there, and is kept as it was")
    if report["gain_db"] < 0:
        warn(f"  all stems lowered by {-report['gain_db']:.1f} dB so that none clips")
    if not report["active"]:
        warn("  silence: nothing is in the stems")
    elif silent := [name for name in report["stems"] if name not in report["active"]]:
        _tell_silent(silent)


def _tell_silent(silent: Sequence[str]) -> None:
    from separator.inference.file_result import is_speaker
    from separator.inference.separation import TOO_QUIET

    speakers = [name for name in silent if is_speaker(name)]
    if speakers:
        warn(f"  no voice of its own in {', '.join(speakers)}: {TOO_QUIET}")
    # A recording without a background is nothing to be told of.
    if others := [name for name in silent if name not in (*speakers, "background")]:
        warn(f"  little in {', '.join(others)}: {TOO_QUIET}")


def _details(report: dict) -> str:
    from separator.inference.separation import UNSURE

    unsure = sum(join["confidence"] < UNSURE for join in report["joins"])
    joined = f"{report['chunks']} chunk(s)" + (f", {unsure} of their joins uncertain" if unsure else "")
    rate = f"{report['sample_rate']} Hz"
    if report["model_sample_rate"] != report["sample_rate"]:
        rate += f" (resampled to {report['model_sample_rate']} Hz for the model, and back)"
    memory = "" if report["peak_megabytes"] is None else f", at most {report['peak_megabytes']} MB"
    return (
        f"{report['seconds']:.1f} s, {report['channels']} channel(s), {rate}, {report['subtype']}; "
        f"{report['work_seconds']:.1f} s of work ({report['real_time_factor']:.4f} a second), "
        f"{joined}{memory}; active: {', '.join(report['active']) or 'none'}; "
        f"in no stem: {report['residual_db']:.0f} dB"
    )


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
