"""A recording as a lane of a page: its waveform and its spectrogram, in columns along time.

Of any length, in the memory of one block: what a column shows is gathered while the samples pass.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from separator.io import readers

# Width and height of a spectrogram, in points.
COLUMNS, BANDS = 1200, 80
# What is between the loudest point of all lanes and black, dB.
RANGE_DB = 75.0
# Nothing that is quieter is made bright for being the loudest, dB of a window's power.
MIN_DB = -30.0
# Windows that a column is the mean of, at most.
MAX_WINDOWS = 4
# Columns that are worked on at a time, fewer if they are of more samples than this.
GROUP = 64
MAX_SAMPLES = 2**20


@dataclass(frozen=True)
class Lane:
    """What is shown of a recording.

    Attributes:
        seconds: its length.
        lowest, highest: of the samples of all channels in each column.
        bands_db: `[band, column]`, power in mel bands of the mean of the channels, dB.
    """

    seconds: float
    lowest: np.ndarray
    highest: np.ndarray
    bands_db: np.ndarray


def measure_file(
    path: Path, num_samples: int, sample_rate: int, take: Callable[[np.ndarray], None] | None = None
) -> Lane:
    """As `measure`, of a file; `take` is given its blocks, for whoever wants more of them.

    Raises:
        AudioError: if it cannot be read.
    """

    def taken(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if take is not None:
                take(block)
            yield block

    with readers.open_recording(path) as recording:
        return measure(taken(recording.blocks()), num_samples, sample_rate)


def measure(blocks: Iterable[np.ndarray], num_samples: int, sample_rate: int) -> Lane:
    """The lane of a recording of `num_samples` that comes in blocks `[channel, time]`; what is missing is silent."""
    size = max(1, -(-num_samples // COLUMNS))
    window = _window(sample_rate)
    per_column = int(np.clip(4 * size // window, 1, MAX_WINDOWS))
    starts = (np.arange(GROUP * per_column) * size) // per_column
    shape, filters = np.hanning(window).astype(np.float32), _mel_filters(sample_rate, window)
    lowest, highest, bands = [], [], []
    for group in _groups(blocks, -(-num_samples // size), size, window):
        count = (group.shape[1] - window) // size
        own = group[:, window // 2 : window // 2 + count * size].reshape(len(group), count, size)
        lowest.append(own.min((0, 2)))
        highest.append(own.max((0, 2)))
        frames = np.lib.stride_tricks.sliding_window_view(group.mean(0), window)[starts[: count * per_column]]
        power = np.abs(np.fft.rfft(frames * shape)) ** 2
        bands.append(filters @ power.reshape(count, per_column, -1).mean(1).T)
    return Lane(
        num_samples / sample_rate,
        np.concatenate(lowest),
        np.concatenate(highest),
        _decibels(np.concatenate(bands, axis=1)),
    )


def _groups(blocks: Iterable[np.ndarray], columns: int, size: int, window: int) -> Iterator[np.ndarray]:
    """The samples of some columns after the other, with half a window more before them and behind."""
    waiting: np.ndarray | None = None
    source = iter(blocks)
    while columns:
        count = min(GROUP, columns, max(1, MAX_SAMPLES // size))
        wanted = count * size + window
        parts = [] if waiting is None else [waiting]
        there = 0 if waiting is None else waiting.shape[1]
        while there < wanted:
            block = next(source, None)
            channels = len(block) if block is not None else len(parts[0]) if parts else 1
            if not parts:
                parts.append(np.zeros((channels, window // 2), np.float32))
                there = window // 2
            if block is None:
                block = np.zeros((channels, wanted - there), np.float32)
            parts.append(block)
            there += block.shape[1]
        group = np.concatenate(parts, axis=1)
        yield group[:, :wanted]
        waiting = group[:, count * size :]
        columns -= count


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, window: int) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=BANDS)


def spectrograms(lanes: Sequence[Lane]) -> list[bytes]:
    """PNG pictures on one scale, in which the loudest point of all is the brightest."""
    from PIL import Image

    loudest = max(MIN_DB, *(float(lane.bands_db.max()) for lane in lanes))
    pictures = []
    for lane in lanes:
        levels = np.clip(1 + (lane.bands_db - loudest) / RANGE_DB, 0, 1)
        picture = Image.fromarray((255 * levels[::-1]).astype(np.uint8), mode="P")
        picture.putpalette(palette().tobytes())
        file = io.BytesIO()
        picture.save(file, "PNG", optimize=True)
        pictures.append(file.getvalue())
    return pictures


def palette() -> np.ndarray:
    """`[256, 3]`, the colours of a spectrogram from silent to loud, in bytes."""
    import matplotlib

    return (matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8)


class Columns:
    """The columns of stems while they come.

    Args:
        num_stems: how many.
        sample_rate: Hz.
        hop: samples from column to column.
    """

    def __init__(self, num_stems: int, sample_rate: int, hop: int) -> None:
        self._hop, self._window = hop, _window(sample_rate)
        self._filters = _mel_filters(sample_rate, self._window)
        self._waiting = np.zeros((num_stems, self._window), np.float32)

    def push(self, stems: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of `[stem, time]`, each column's peaks `[stem]` and bands `[stem, band]`, dB."""
        self._waiting = np.concatenate([self._waiting, stems], axis=1)
        while self._waiting.shape[1] >= self._window + self._hop:
            self._waiting = self._waiting[:, self._hop :]
            frames = self._waiting[:, : self._window]
            power = np.abs(np.fft.rfft(frames * np.hanning(self._window))) ** 2
            yield _decibels(np.abs(frames[:, -self._hop :]).max(1) ** 2), _decibels(power @ self._filters.T)


def _window(sample_rate: int) -> int:
    """64 ms, as a power of two."""
    return 2 ** round(np.log2(0.064 * sample_rate))


def _decibels(power: np.ndarray) -> np.ndarray:
    return (10 * np.log10(np.maximum(power, 1e-12))).astype(np.float32)


def outline(lane: Lane, peak: float) -> str:
    """The waveform as the points of an SVG polygon, 0 to 1000 wide and -100 to 100 high, which `peak` reaches."""
    scale = 100 / max(peak, 1e-9)
    places = np.linspace(0, 1000, len(lane.highest))
    there = [f"{x:.1f},{-scale * y:.0f}" for x, y in zip(places, lane.highest, strict=True)]
    back = [f"{x:.1f},{-scale * y:.0f}" for x, y in zip(places[::-1], lane.lowest[::-1], strict=True)]
    return " ".join(there + back)


def peak(lanes: Sequence[Lane]) -> float:
    """Of all of them."""
    return max(max(float(lane.highest.max()), -float(lane.lowest.min())) for lane in lanes)


def frequency_ticks(sample_rate: int) -> dict[str, float]:
    """Names of some frequencies, and where in a spectrogram they are: 0 at the bottom, 1 at the top."""
    import librosa

    edges = librosa.mel_frequencies(BANDS, fmax=sample_rate / 2)
    ticks = {"250": 250.0, "1k": 1000.0, "4k": 4000.0, "12k": 12000.0}
    return {name: float(np.searchsorted(edges, hz)) / BANDS for name, hz in ticks.items() if hz < 0.45 * sample_rate}
