"""Waveform and spectrogram of a recording for a page, in columns along time.

Recordings may have any length. Columns are computed while the samples are read, so memory holds only one block.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from separator.io import readers

# Width and height of a spectrogram, in pixels.
COLUMNS, BANDS = 1200, 80
# Range from the loudest point of all lanes down to black, in dB.
RANGE_DB = 75.0
# Lower limit for the loudest point, in dB of a window's power, so that near-silence is not shown bright.
MIN_DB = -30.0
# Maximum number of windows that are averaged for one column.
MAX_WINDOWS = 4
# Number of columns that are computed at a time. It is lower if they hold more than MAX_SAMPLES samples.
GROUP = 64
MAX_SAMPLES = 2**20


@dataclass(frozen=True)
class Lane:
    """The picture data of a recording.

    Attributes:
        seconds: length of the recording.
        lowest: lowest sample of all channels in each column.
        highest: highest sample of all channels in each column.
        bands_db: `[band, column]`, power in mel bands of the mean of the channels, in dB.
    """

    seconds: float
    lowest: np.ndarray
    highest: np.ndarray
    bands_db: np.ndarray


def measure_file(
    path: Path, num_samples: int, sample_rate: int, on_block: Callable[[np.ndarray], None] | None = None
) -> Lane:
    """Measure a file as `measure` does.

    Args:
        path: the file.
        num_samples: number of samples per channel.
        sample_rate: Hz.
        on_block: called with each block of the file, for other uses of the samples.

    Raises:
        AudioError: if the file cannot be read.
    """

    def observed(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            if on_block is not None:
                on_block(block)
            yield block

    with readers.open_recording(path) as recording:
        return measure(observed(recording.blocks()), num_samples, sample_rate)


def measure(blocks: Iterable[np.ndarray], num_samples: int, sample_rate: int) -> Lane:
    """Return the lane of a recording.

    Args:
        blocks: the recording in blocks `[channel, time]`.
        num_samples: number of samples per channel. If there are fewer, the rest is silent.
        sample_rate: Hz.
    """
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
    """Yield the samples of groups of columns, each with half a window more before and after them."""
    kept: np.ndarray | None = None
    source = iter(blocks)
    while columns:
        count = min(GROUP, columns, max(1, MAX_SAMPLES // size))
        wanted = count * size + window
        parts = [] if kept is None else [kept]
        available = 0 if kept is None else kept.shape[1]
        while available < wanted:
            block = next(source, None)
            channels = len(block) if block is not None else len(parts[0]) if parts else 1
            if not parts:
                parts.append(np.zeros((channels, window // 2), np.float32))
                available = window // 2
            if block is None:
                block = np.zeros((channels, wanted - available), np.float32)
            parts.append(block)
            available += block.shape[1]
        group = np.concatenate(parts, axis=1)
        yield group[:, :wanted]
        kept = group[:, count * size :]
        columns -= count


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, window: int) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=sample_rate, n_fft=window, n_mels=BANDS)


def spectrograms(lanes: Sequence[Lane]) -> list[bytes]:
    """Return PNG pictures with a common scale. The loudest point of all lanes is the brightest."""
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
    """Return the colours of a spectrogram from silent to loud, `[256, 3]`, in bytes."""
    import matplotlib

    return (matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255).astype(np.uint8)


class Columns:
    """Compute the columns of stems while they are separated.

    Args:
        num_stems: number of stems.
        sample_rate: Hz.
        hop: samples between columns.
    """

    def __init__(self, num_stems: int, sample_rate: int, hop: int) -> None:
        self._hop, self._window = hop, _window(sample_rate)
        self._filters = _mel_filters(sample_rate, self._window)
        self._buffer = np.zeros((num_stems, self._window), np.float32)

    def push(self, stems: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Add samples `[stem, time]`. Yield the peaks `[stem]` and the bands `[stem, band]` of each column, in dB."""
        self._buffer = np.concatenate([self._buffer, stems], axis=1)
        while self._buffer.shape[1] >= self._window + self._hop:
            self._buffer = self._buffer[:, self._hop :]
            frames = self._buffer[:, : self._window]
            power = np.abs(np.fft.rfft(frames * np.hanning(self._window))) ** 2
            yield _decibels(np.abs(frames[:, -self._hop :]).max(1) ** 2), _decibels(power @ self._filters.T)


def _window(sample_rate: int) -> int:
    """Length of a window in samples: about 64 ms, rounded to a power of two."""
    return 2 ** round(np.log2(0.064 * sample_rate))


def _decibels(power: np.ndarray) -> np.ndarray:
    return (10 * np.log10(np.maximum(power, 1e-12))).astype(np.float32)


def outline(lane: Lane, peak: float) -> str:
    """Return the waveform as points of an SVG polygon, 0 to 1000 wide and -100 to 100 high. `peak` is full height."""
    scale = 100 / max(peak, 1e-9)
    places = np.linspace(0, 1000, len(lane.highest))
    upper = [f"{x:.1f},{-scale * y:.0f}" for x, y in zip(places, lane.highest, strict=True)]
    lower = [f"{x:.1f},{-scale * y:.0f}" for x, y in zip(places[::-1], lane.lowest[::-1], strict=True)]
    return " ".join(upper + lower)


def peak(lanes: Sequence[Lane]) -> float:
    """Return the largest absolute sample of all lanes."""
    return max(max(float(lane.highest.max()), -float(lane.lowest.min())) for lane in lanes)


def frequency_ticks(sample_rate: int) -> dict[str, float]:
    """Return labels of some frequencies, and their heights in a spectrogram: 0 is the bottom, 1 is the top."""
    import librosa

    edges = librosa.mel_frequencies(BANDS, fmax=sample_rate / 2)
    ticks = {"250": 250.0, "1k": 1000.0, "4k": 4000.0, "12k": 12000.0}
    return {name: float(np.searchsorted(edges, hz)) / BANDS for name, hz in ticks.items() if hz < 0.45 * sample_rate}
