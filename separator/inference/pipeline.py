"""A recording that comes in blocks -> its stems, in blocks: resampled, cut, separated, put in order, joined.

In memory is a chunk at a time. Which source of a chunk is which speaker is known when all have been heard, so what was
separated waits in a file; and since the stems' peak is known when they are complete, they can be had again.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from separator.errors import AudioError, reason
from separator.inference import chunks
from separator.inference.channel_likeness import ChannelLikeness
from separator.inference.chunks import Chunk
from separator.inference.network_runner import Estimator, downmix_weights
from separator.inference.speaker_matching import SpeakerMemory
from separator.streaming.stream import Stream

# A residual this far below the recording is rounding, dB.
MIN_RESIDUAL_DB = -120.0
# What waits in memory before it goes to a file, and samples that are resampled at a time.
MEMORY_BYTES = 2**25
BLOCK = 65536


class Spool:
    """Chunks kept in an unnamed file, which nobody has to remove; a context manager.

    Args:
        folder: where there is room for it; if None, everything stays in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: Any = None
        if folder is not None:
            self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - closed at exit
        self._chunks: list[Any] = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def starts(self) -> list[int]:
        """Of the chunks."""
        return [start for start, _ in self._chunks]

    def append(self, start: int, samples: np.ndarray) -> None:
        """Keeps a chunk. Raises `AudioError` if there is no room."""
        kept: Any = samples
        if self._file is not None:
            try:
                self._file.write(np.ascontiguousarray(samples, np.float32).data)
            except OSError as error:
                raise AudioError(
                    f"{self._folder}: has no room for what must wait there ({reason(error)}); choose another place "
                    "with --out"
                ) from error
            kept = samples.shape
        self._chunks.append((start, kept))

    def __iter__(self) -> Iterator[Chunk]:
        """The chunks, in the order in which they came."""
        if self._file is not None:
            self._file.seek(0)
        for start, kept in self._chunks:
            if self._file is not None:
                data = self._file.read(4 * int(np.prod(kept)))
                kept = np.frombuffer(data, np.float32).reshape(kept)
            yield start, kept


class Separation:
    """One recording on its way through a model: `take` it, then have its `stems`.

    Args:
        estimator: the network.
        sample_rate: Hz of the recording.
        channels: of the recording.
        segment_seconds: longest piece that is separated at a time.
        overlap: fraction of it that neighbouring pieces share.
        spool: what keeps the stems until all are known.
        on_progress: called with the seconds done.

    Attributes:
        num_samples: of the recording, as far as it was taken.
        num_chunks: pieces it was separated in.
    """

    def __init__(
        self,
        estimator: Estimator,
        sample_rate: int,
        channels: int,
        segment_seconds: float,
        overlap: float,
        spool: Spool,
        on_progress: Callable[[float], None],
    ) -> None:
        self.estimator, self.net = estimator, estimator.net
        self.sample_rate, self.channels = sample_rate, channels
        self.segment = max(1, round(segment_seconds * self.net.sample_rate))
        self.overlap = round(overlap * self.segment)
        self.num_samples = 0
        self._confidences: list[float] = []
        self._orders: list[tuple[int, ...]] | None = None
        self._spool, self._on_progress = spool, on_progress
        # Energies: of the recording, of what the model hears of it, of the chunks of that, of what no stem of them has.
        self._energy = self._heard = self._in_chunks = self._in_none = 0.0
        listens = channels == 2 and self.net.num_interchangeable > 1
        self._likeness = ChannelLikeness(sample_rate) if listens else None

    @property
    def num_chunks(self) -> int:
        """1 for a model that goes through a recording of any length in one pass."""
        return 1 if self.net.can_stream else len(self._spool)

    @property
    def joins(self) -> list[tuple[float, float]]:
        """Where one piece goes over into the next, in seconds, and how sure it is that the voices stay themselves."""
        if self.net.can_stream:
            return []
        starts = self._spool.starts[1:]
        sure = self._confidences or [1.0] * len(starts)
        return [(start / self.net.sample_rate, one) for start, one in zip(starts, sure, strict=True)]

    @property
    def residual_db(self) -> float:
        """What is in the recording and in none of its stems, beside the recording; at least -120 dB.

        Of a recording at a higher rate than the model's, that is also what is above the model's band.
        """
        missing = max(0.0, self._energy - self._heard)
        if self._in_chunks:
            missing += self._heard * self._in_none / self._in_chunks
        ratio = missing / self._energy if self._energy else 0.0
        return max(MIN_RESIDUAL_DB, 10 * math.log10(max(ratio, 1e-30)))

    @property
    def channels_differ(self) -> bool:
        """Whether the recording has two channels that hold different sounds, such as one person in each."""
        return self._likeness is not None and self._likeness.differ()

    def take(self, blocks: Iterable[np.ndarray]) -> None:
        """Separates a recording, which comes in blocks `[channel, time]`."""
        if self.net.can_stream:
            self._stream(blocks)
        else:
            self._separate(blocks)

    def stems(self) -> Iterator[np.ndarray]:
        """Blocks `[source, channel, time]` at the recording's rate, in all as long as it."""
        if self.net.can_stream:
            yield from (samples for _, samples in self._spool)
            return
        wide = (self.net.num_sources, max(self.channels, self.net.num_channels))
        flat_width = wide[0] * wide[1]
        joined = (block.reshape(flat_width, -1) for block in chunks.join(self._in_order()))
        missing = self.num_samples
        for flat in resampled(joined, flat_width, self.net.sample_rate, self.sample_rate):
            # The conversions of the rate may end a sample early or late.
            block = flat[:, :missing].reshape(*wide, -1)
            missing -= block.shape[-1]
            yield block if wide[1] == self.channels else block.mean(1, keepdims=True)
        if missing:
            yield np.zeros((wide[0], self.channels, missing), np.float32)

    def _separate(self, blocks: Iterable[np.ndarray]) -> None:
        """In chunks, through a network that looks ahead."""
        net, alike = self.net, self.net.num_interchangeable
        voices = SpeakerMemory(net.sample_rate) if alike else None
        wide = max(self.channels, net.num_channels)
        at_its_rate = self._listened(resampled(self._counted(blocks, wide), wide, self.sample_rate, net.sample_rate))
        for batch in _batches(chunks.cut(at_its_rate, self.segment, self.overlap), self.estimator.batch):
            mixtures = [torch.from_numpy(samples) for _, samples in batch]
            for (start, _), mixture, sources in zip(batch, mixtures, self.estimator(mixtures), strict=True):
                self._spool.append(start, sources.numpy())
                self._compare(mixture.numpy(), sources.numpy())
                if voices is not None:
                    voices.observe(start, sources[:alike], downmix_weights(mixture))
                self._on_progress((start + mixture.shape[-1]) / net.sample_rate)
        if voices is not None:
            self._orders, self._confidences = voices.decide()

    def _stream(self, blocks: Iterable[np.ndarray]) -> None:
        """Without chunks: a network that can stream goes through any length in one pass."""
        estimator = self.estimator
        network = self.net.stream(
            lambda mixture, state: estimator.estimate(mixture[None], downmix_weights(mixture)[None], state)[0]
        )
        stream = Stream(network, self.net.sources, self.net.sample_rate, self.sample_rate)
        done, waiting = 0, np.zeros((self.channels, 0), np.float32)
        for block in self._counted(blocks, self.channels):
            stems = stream.push(block)
            self._spool.append(done, stems)
            waiting = self._compare(np.concatenate([waiting, block], axis=1), stems)
            done += stems.shape[-1]
            self._on_progress(self.num_samples / self.sample_rate)
        stems = stream.flush()
        self._spool.append(done, stems)
        self._compare(waiting, stems)
        self._heard = self._energy  # compared at its own rate

    def _counted(self, blocks: Iterable[np.ndarray], wide: int) -> Iterator[np.ndarray]:
        """Blocks with as many channels as the network wants."""
        for block in blocks:
            self.num_samples += block.shape[-1]
            self._energy += energy(block) / self.sample_rate
            if self._likeness is not None:
                self._likeness.add(block)
            yield block if len(block) == wide else np.repeat(block, wide, axis=0)

    def _listened(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Blocks at the model's rate."""
        for block in blocks:
            self._heard += energy(block) / self.net.sample_rate
            yield block

    def _compare(self, mixture: np.ndarray, stems: np.ndarray) -> np.ndarray:
        """Adds up what is in the beginning of `mixture` and in none of the `stems`; returns the rest of it."""
        heard = mixture[:, : stems.shape[-1]]
        self._in_chunks += energy(heard)
        self._in_none += energy(heard - stems.sum(0))
        return mixture[:, stems.shape[-1] :]

    def _in_order(self) -> Iterator[Chunk]:
        for number, (start, sources) in enumerate(self._spool):
            if self._orders is not None:
                order = self._orders[number]
                sources = sources[[*order, *range(len(order), len(sources))]]
            yield start, sources


def energy(samples: np.ndarray) -> float:
    """Of `[channel, time]`, the mean over the channels."""
    return float(np.vdot(samples, samples)) / len(samples)


def resampled(blocks: Iterable[np.ndarray], channels: int, from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Blocks `[channel, time]` at another rate, in soxr's high quality; as they are if the rates are one."""
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, channels, dtype="float32")
    for block in blocks:
        for start in range(0, block.shape[-1], BLOCK):
            yield stream.resample_chunk(np.ascontiguousarray(block[:, start : start + BLOCK].T)).T
    yield stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


def _batches(items: Iterable[Chunk], size: int) -> Iterator[list[Chunk]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
