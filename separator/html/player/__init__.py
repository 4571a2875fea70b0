"""Player for reports and the web page: tracks below each other on one time axis, played together.

The player is a fragment of HTML. The page must include `STYLE` and `SCRIPT` once.
"""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from separator.html import track_picture
from separator.html.track_picture import Lane

_HERE = Path(__file__).parent
STYLE = (_HERE / "player.css").read_text(encoding="utf-8")
SCRIPT = (_HERE / "player.js").read_text(encoding="utf-8")
# Steps of the time axis, in seconds. The first one that gives at most MAX_TICKS ticks is used.
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
MAX_TICKS = 8
# Maximum number of joins that are listed in words. All joins are marked in the pictures.
MAX_JOINS = 10
# Range of the level slider.
LEVEL_DB = (-30, 6)
# Length of the pieces of embedded sound. The browser decodes one piece at a time.
PIECE_SECONDS = 30
# Maximum number of channels in FLAC, and maximum sample rate in Hz that browsers decode.
MAX_CHANNELS, MAX_RATE = 8, 192_000


@dataclass(frozen=True)
class Track:
    """A recording to show and play.

    Attributes:
        name: displayed name.
        lane: picture data.
        sound: source of the sound, from `embedded` or `served`.
        note: a remark.
        muted: whether the track is muted at first.
        download: URL of the file. "" for no download.
    """

    name: str
    lane: Lane
    sound: dict[str, Any]
    note: str = ""
    muted: bool = False
    download: str = ""


def embedded(samples: np.ndarray, sample_rate: int) -> dict[str, Any]:
    """Embed the samples `[channel, time]` in the page, as lossless 16-bit FLAC. At most `MAX_CHANNELS` channels."""
    samples, length = np.atleast_2d(samples), PIECE_SECONDS * sample_rate
    pieces = [samples[:, start : start + length] for start in range(0, samples.shape[1], length)]
    return {"pieces": [_flac(piece, sample_rate) for piece in pieces], "length": length, "channels": len(samples)}


def _flac(samples: np.ndarray, sample_rate: int) -> str:
    file = io.BytesIO()
    soundfile.write(file, samples.T, sample_rate, "PCM_16", format="FLAC")
    return base64.b64encode(file.getvalue()).decode("ascii")


def served(url: str, channels: int) -> dict[str, Any]:
    """Load the sound from a URL that returns `count` samples from `start`: 16 bit, little-endian, interleaved."""
    return {"url": url, "channels": channels}


def fragment(
    tracks: Sequence[Track],
    sample_rate: int,
    joins: Sequence[tuple[float, float]] = (),
    label: str = "Recording",
    heard: float | None = None,
    heard_rate: int | None = None,
) -> str:
    """Return the HTML of the player.

    Args:
        tracks: tracks of the same length.
        sample_rate: sample rate of all tracks, in Hz.
        joins: times in seconds at which voices may have changed places between stems, each with the confidence that
            they have not, from 0 to 1.
        label: name of the player for screen readers.
        heard: number of seconds that can be played. None if all of it can.
        heard_rate: sample rate of the sound in Hz, if it differs from `sample_rate`.
    """
    seconds = tracks[0].lane.seconds
    facts = {
        "seconds": seconds,
        "heard": seconds if heard is None else heard,
        "rate": heard_rate or sample_rate,
        "tracks": [track.sound | {"muted": track.muted} for track in tracks],
    }
    part = "" if heard is None else f'<p class="heard">Only the first {clock(heard)} can be played here.</p>'
    peak = track_picture.peak([track.lane for track in tracks])
    hertz = track_picture.frequency_ticks(sample_rate)
    pictures = track_picture.spectrograms([track.lane for track in tracks])
    rows = "".join(
        _row(track, peak, picture, hertz, joins if number else ())
        for number, (track, picture) in enumerate(zip(tracks, pictures, strict=True))
    )
    return (
        f'<section class="player" tabindex="-1" aria-label="{_quoted(label)}" '
        f'data-player="{_quoted(json.dumps(facts))}">'
        '<div class="transport"><button type="button" class="play" aria-label="Play"></button>'
        '<span class="clock"></span><input type="range" class="seek" min="0" step="any" value="0" '
        f'max="{seconds:.6f}" aria-label="Position"></div>'
        f'<div class="trouble" role="status"></div>{rows}{_axis(seconds)}{_joins(joins)}{part}</section>'
    )


def _row(track: Track, peak: float, picture: bytes, hertz: dict[str, float], joins: Sequence) -> str:
    name = _quoted(track.name)
    note = f'<span class="note">{html.escape(track.note)}</span>' if track.note else ""
    download = f'<a class="download" href="{_quoted(track.download)}" download>Save</a>' if track.download else ""
    marks = "".join(
        f'<i class="join" style="left:{100 * at / track.lane.seconds:.3f}%" title="{_join_text(at, confidence)}"></i>'
        for at, confidence in joins
    )
    labels = "".join(
        f'<i class="hertz" style="top:{52 + 92 * (1 - place) - 5:.0f}px" aria-hidden="true">{label}</i>'
        for label, place in hertz.items()
    )
    return (
        f'<div class="track" role="group" aria-label="{name}"><div class="controls">'
        f'<span class="name">{html.escape(track.name)}</span>{note}'
        f'<button type="button" class="alone" aria-label="Play {name} alone">&#9654;&#xFE0E; alone</button>'
        f'<button type="button" class="mute" aria-pressed="false" aria-label="Mute {name}">Mute</button>'
        f'<button type="button" class="solo" aria-pressed="false" aria-label="Solo {name}">Solo</button>{download}'
        f'<label><span class="visually-hidden">Level of {name}</span><input type="range" class="level" '
        f'min="{LEVEL_DB[0]}" max="{LEVEL_DB[1]}" step="1" value="0"><span class="decibels">0 dB</span></label></div>'
        '<div class="lane"><svg viewBox="0 -100 1000 200" preserveAspectRatio="none" aria-hidden="true">'
        f'<polygon points="{track_picture.outline(track.lane, peak)}"/></svg>'
        f'<img alt="Spectrogram of {name}" src="data:image/png;base64,{base64.b64encode(picture).decode("ascii")}">'
        f'{labels}{marks}<i class="cursor"></i></div></div>'
    )


def _axis(seconds: float) -> str:
    step = next((step for step in STEPS if seconds / step <= MAX_TICKS), STEPS[-1])
    ticks = np.arange(0, seconds, step)
    # A tick near the end would stick out on the right.
    shown = [tick for tick in ticks if tick <= 0.96 * seconds or len(ticks) == 1]
    texts = [clock(tick) if step >= 1 else f"{tick:.1f} s" for tick in shown]
    spans = "".join(
        f'<span style="left:{100 * tick / seconds:.3f}%">{text}</span>' for tick, text in zip(shown, texts, strict=True)
    )
    return f'<div class="axis" aria-hidden="true"><div>{spans}</div></div>'


def _joins(joins: Sequence[tuple[float, float]]) -> str:
    if not joins:
        return ""
    first, *others = joins
    places = [_join_text(*first), *(f"{clock(at)} ({sure:.0%})" for at, sure in others[: MAX_JOINS - 1])]
    more = f", and {len(joins) - MAX_JOINS} more" if len(joins) > MAX_JOINS else ""
    return f'<p class="joins">Voices may have changed places at {", ".join(places)}{more}.</p>'


def _join_text(at: float, confidence: float) -> str:
    return f"{clock(at)} ({confidence:.0%} sure that they have not)"


def clock(seconds: float) -> str:
    """Format seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _quoted(text: str) -> str:
    return html.escape(text, quote=True)
