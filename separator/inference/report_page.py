"""A self-contained HTML page about a separated recording: pictures, players and figures."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import soxr

from separator import __version__
from separator.errors import AudioError, reason
from separator.html import player, track_picture
from separator.html.page import page, table
from separator.html.player import Track
from separator.inference.file_result import is_speaker
from separator.inference.separation import TOO_QUIET, FileResult
from separator.io import atomic

# Maximum number of samples that a page embeds, over all tracks: about 40 MB. Longer recordings are cut off.
MAX_SAMPLES = 40_000_000
# Sample rate in Hz at which recordings of very high sample rates are embedded.
USUAL_RATE = 48_000
NO_VOICE = f"probably no voice: {TOO_QUIET}"
LITTLE = f"very quiet: {TOO_QUIET}"
SILENCE = "silent"


def write(result: FileResult, path: Path) -> None:
    """Write the page of `make` to a file, completely or not at all. Replace an existing file.

    Raises:
        AudioError: if the page cannot be made or written.
    """
    text = make(result)
    try:
        atomic.write_together({path: lambda to: to.write_text(text, encoding="utf-8")})
    except OSError as error:
        raise AudioError(f"{path}: the report cannot be written ({reason(error)}); the stems were written") from error


def make(result: FileResult) -> str:
    """Return the page about a result of `Separator.separate_file`.

    Raises:
        AudioError: if the recording or a stem can no longer be read.
    """
    wide = result.sample_rate * min(result.channels, player.MAX_CHANNELS) * (1 + len(result.paths))
    heard = min(result.seconds, max(1.0, float(MAX_SAMPLES // wide)))
    tracks = [_track(name, path, result, heard) for name, path in {"recording": result.path, **result.paths}.items()]
    name = result.path.name
    return page(
        f"{name}, separated",
        [
            f"<h1>{html.escape(name)}</h1>",
            player.fragment(
                tracks,
                result.sample_rate,
                result.unsure_joins,
                label=f"{name} and its stems",
                heard=heard if heard < result.seconds else None,
                heard_rate=_heard_rate(result),
            ),
            _playback_note(result),
            "<h2>Figures</h2>",
            figures(result),
            f'<p class="faint">Made by separator {__version__}.</p>',
        ],
    )


def note(name: str, result: FileResult) -> str:
    """Return a remark on a stem. Empty if there is nothing to remark."""
    if name not in result.paths or name in result.active:
        return ""
    if not result.active:
        return SILENCE
    return NO_VOICE if is_speaker(name) else LITTLE


def figures(result: FileResult) -> str:
    """Return a table of the measurements."""
    resampled = (
        "" if result.sample_rate == result.model_sample_rate else f", processed at {result.model_sample_rate} Hz"
    )
    channels = {1: "mono", 2: "stereo"}.get(result.channels, f"{result.channels} channels")
    unsure = len(result.unsure_joins)
    joins = f" ({unsure} uncertain join{'s' if unsure > 1 else ''})" if unsure else ""
    rows = [
        ("model", html.escape(result.model)),
        ("recording", f"{player.clock(result.seconds)} at {result.sample_rate} Hz{resampled}, {channels}"),
        ("processing time", f"{result.work_seconds:.1f} s, {result.real_time_factor:.3f} s per second of audio"),
        ("chunks", f"{result.num_chunks}{joins}"),
        ("sample format of the stems", result.subtype),
        ("gain to avoid clipping", f"{result.gain_db:.1f} dB"),
        ("residual (energy in no stem)", f"{result.residual_db:.0f} dB"),
    ]
    rows += [("note", html.escape(remark.fact)) for remark in result.notes]
    if result.damage:
        rows.append(("damage", html.escape(result.damage)))
    return table((), rows, "text")


def _track(name: str, path: Path, result: FileResult, heard: float) -> Track:
    kept: list[np.ndarray] = []
    rate, is_wide = _heard_rate(result), result.channels > player.MAX_CHANNELS
    missing = round(heard * result.sample_rate)

    def keep(block: np.ndarray) -> None:
        nonlocal missing
        if missing:
            part = block[:, :missing]
            kept.append(part.mean(0, keepdims=True) if is_wide else part)
            missing -= part.shape[1]

    lane = track_picture.measure_file(path, round(result.seconds * result.sample_rate), result.sample_rate, keep)
    samples = np.concatenate(kept, axis=1)
    if rate != result.sample_rate:
        samples = soxr.resample(samples.T, result.sample_rate, rate).T
    sound = player.embedded(samples, rate)
    return Track(name, lane, sound, note(name, result), muted=name not in result.paths)


def _heard_rate(result: FileResult) -> int:
    return result.sample_rate if result.sample_rate <= player.MAX_RATE else USUAL_RATE


def _playback_note(result: FileResult) -> str:
    """Say how the embedded sound differs from the files."""
    other = []
    if result.channels > player.MAX_CHANNELS:
        other.append(f"the mean of the {result.channels} channels")
    if _heard_rate(result) != result.sample_rate:
        other.append(f"at {_heard_rate(result)} Hz")
    return f'<p class="faint">This page plays: {" ".join(other)}. The files are complete.</p>' if other else ""
