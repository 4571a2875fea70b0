"""A separated recording as one HTML page that needs nothing else: pictures, players and figures."""

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

# Samples that a page holds of all its tracks, about 40 MB; of a longer recording it holds the beginning.
MAX_SAMPLES = 40_000_000
# Hz at which recordings of very high rates are heard.
USUAL_RATE = 48_000
NO_VOICE = f"no voice of its own: {TOO_QUIET}"
LITTLE = f"little: {TOO_QUIET}"
SILENCE = "silence"


def write(result: FileResult, path: Path) -> None:
    """Writes `make` of it to a file, whole or not at all; a file that is there is replaced.

    Raises:
        AudioError: as `make`, or if it cannot be written.
    """
    text = make(result)
    try:
        atomic.write_together({path: lambda to: to.write_text(text, encoding="utf-8")})
    except OSError as error:
        raise AudioError(f"{path}: the report cannot be written ({reason(error)}); the stems are there") from error


def make(result: FileResult) -> str:
    """The page of what `Separator.separate_file` did.

    Raises:
        AudioError: if the recording or a stem cannot be read any more.
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
            _heard_otherwise(result),
            "<h2>Figures</h2>",
            figures(result),
            f'<p class="faint">Made by separator {__version__}.</p>',
        ],
    )


def note(name: str, result: FileResult) -> str:
    """A remark on a stem."""
    if name not in result.paths or name in result.active:
        return ""
    if not result.active:
        return SILENCE
    return NO_VOICE if is_speaker(name) else LITTLE


def figures(result: FileResult) -> str:
    """What was measured, as a table."""
    resampled = (
        "" if result.sample_rate == result.model_sample_rate else f", by the model at {result.model_sample_rate} Hz"
    )
    channels = {1: "mono", 2: "stereo"}.get(result.channels, f"{result.channels} channels")
    unsure = len(result.unsure_joins)
    joins = f", {unsure} of their joins uncertain" if unsure else ""
    rows = [
        ("model", html.escape(result.model)),
        ("recording", f"{player.clock(result.seconds)} at {result.sample_rate} Hz{resampled}, {channels}"),
        ("work", f"{result.work_seconds:.1f} s, {result.real_time_factor:.3f} for a second of it"),
        ("pieces", f"{result.num_chunks}{joins}"),
        ("stems' format", result.subtype),
        ("gain against clipping", f"{result.gain_db:.1f} dB"),
        ("of the recording in no stem", f"{result.residual_db:.0f} dB"),
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


def _heard_otherwise(result: FileResult) -> str:
    """What of the sound on the page is not as in the files."""
    other = []
    if result.channels > player.MAX_CHANNELS:
        other.append(f"the mean of the {result.channels} channels")
    if _heard_rate(result) != result.sample_rate:
        other.append(f"at {_heard_rate(result)} Hz")
    return f'<p class="faint">Heard here: {" ".join(other)}. The files hold all.</p>' if other else ""
