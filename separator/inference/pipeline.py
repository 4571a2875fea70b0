"""Separate a recording block by block: resample, cut into chunks, run the network, match speakers, join the chunks.

Only one batch of chunks is in memory at a time. The order of the speakers in each chunk is known only after the last
chunk, so the separated chunks go to a temporary file. The peak of the stems is known only when they are complete, so
the stems can be read more than once.
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
from separator.inference.speaker_matching import SpeakerMatcher
from separator.streaming.stream import Stream

# Floor of the residual, in dB relative to the recording. A residual below it is rounding.
MIN_RESIDUAL_DB = -120.0
# Size in bytes up to which separated chunks stay in memory before they go to a temporary file.
MEMORY_BYTES = 2**25
# Samples per call of the resampler.
BLOCK = 65536


class ChunkStore:
    """Keep separated chunks in an unnamed temporary file. Use it as a context manager.

    Args:
        folder: folder for the file, on a disk with enough space. None keeps everything in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._file: Any = None
        if folder is not None:
            self._file = tempfile.SpooledTemporaryFile(MEMORY_BYTES, dir=str(folder))  # noqa: SIM115 - closed at exit
        self._chunks: list[Any] = []

    def __enter__(self) -> ChunkStore:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def starts(self) -> list[int]:
        """Index of the first sample of each chunk."""
        return [start for start, _ in self._chunks]

    def append(self, start: int, samples: np.ndarray) -> None:
        """Add a chunk. Raise `AudioError` if it cannot be written."""
        kept: Any = samples
        if self._file is not None:
            try:
                self._file.write(np.ascontiguousarray(samples, np.float32).data)
            except OSError as error:
                raise AudioError(
                    f"{self._folder}: temporary data cannot be written ({reason(error)}); choose another folder "
                    "with --out"
                ) from error
            kept = samples.shape
        self._chunks.append((start, kept))

    def __iter__(self) -> Iterator[Chunk]:
        """Yield the chunks in the order in which they were added."""
        if self._file is not None:
            self._file.seek(0)
        for start, kept in self._chunks:
            if self._file is not None:
                data = self._file.read(4 * int(np.prod(kept)))
                kept = np.frombuffer(data, np.float32).reshape(kept)
            yield start, kept


class Separation:
    """Separate one recording. Call `process(blocks)`, then iterate over `stems()`.

    Args:
        estimator: runs the network.
        sample_rate: sample rate of the recording, in Hz.
        channels: number of channels of the recording.
        segment_seconds: chunk length in seconds.
        overlap: overlap of neighbouring chunks, as a fraction of a chunk.
        store: keeps the separated chunks until the last one is done.
        on_progress: called with the number of seconds done.

    Attributes:
        num_samples: number of samples of the recording that were processed so far.
        num_chunks: number of chunks.
    """

    def __init__(
        self,
        estimator: Estimator,
        sample_rate: int,
        channels: int,
        segment_seconds: float,
        overlap: float,
        store: ChunkStore,
        on_progress: Callable[[float], None],
    ) -> None:
        self.estimator, self.net = estimator, estimator.net
        self.sample_rate, self.channels = sample_rate, channels
        self.segment = max(1, round(segment_seconds * self.net.sample_rate))
        self.overlap = round(overlap * self.segment)
        self.num_samples = 0
        self._confidences: list[float] = []
        self._orders: list[tuple[int, ...]] | None = None
        self._store, self._on_progress = store, on_progress
        # Energies: of the recording at its own rate and at the model's rate, of all chunks, and of the part of the
        # chunks that is in no stem.
        self._energy = self._energy_at_model_rate = self._energy_of_chunks = self._energy_missing = 0.0
        needs_likeness = channels == 2 and self.net.num_interchangeable > 1
        self._likeness = ChannelLikeness(sample_rate) if needs_likeness else None

    @property
    def num_chunks(self) -> int:
        """Number of chunks. 1 for a model that can stream, which takes any length in one pass."""
        return 1 if self.net.can_stream else len(self._store)

    @property
    def joins(self) -> list[tuple[float, float]]:
        """For each join of two chunks, its time in seconds and the confidence that the speakers are not swapped."""
        if self.net.can_stream:
            return []
        starts = self._store.starts[1:]
        confidences = self._confidences or [1.0] * len(starts)
        return [(start / self.net.sample_rate, value) for start, value in zip(starts, confidences, strict=True)]

    @property
    def residual_db(self) -> float:
        """Energy not captured by any stem, in dB relative to the recording (floor: -120 dB).

        If the sample rate of the recording is higher than the model's, this includes sound above the model's band.
        """
        missing = max(0.0, self._energy - self._energy_at_model_rate)
        if self._energy_of_chunks:
            missing += self._energy_at_model_rate * self._energy_missing / self._energy_of_chunks
        ratio = missing / self._energy if self._energy else 0.0
        return max(MIN_RESIDUAL_DB, 10 * math.log10(max(ratio, 1e-30)))

    @property
    def channels_differ(self) -> bool:
        """Whether the recording has two channels that hold different sounds, such as one speaker in each."""
        return self._likeness is not None and self._likeness.differ()

    def process(self, blocks: Iterable[np.ndarray]) -> None:
        """Separate a recording given as blocks `[channel, time]`."""
        if self.net.can_stream:
            self._process_stream(blocks)
        else:
            self._process_chunks(blocks)

    def stems(self) -> Iterator[np.ndarray]:
        """Yield blocks `[source, channel, time]` at the recording's sample rate. Together they have its length."""
        if self.net.can_stream:
            yield from (samples for _, samples in self._store)
            return
        shape = (self.net.num_sources, max(self.channels, self.net.num_channels))
        flat_width = shape[0] * shape[1]
        joined = (block.reshape(flat_width, -1) for block in chunks.join(self._in_order()))
        missing = self.num_samples
        for flat in resampled(joined, flat_width, self.net.sample_rate, self.sample_rate):
            # Resampling to the model's rate and back may give a sample too few or too many.
            block = flat[:, :missing].reshape(*shape, -1)
            missing -= block.shape[-1]
            yield block if shape[1] == self.channels else block.mean(1, keepdims=True)
        if missing:
            yield np.zeros((shape[0], self.channels, missing), np.float32)

    def _process_chunks(self, blocks: Iterable[np.ndarray]) -> None:
        """Separate in chunks, with a network that looks ahead."""
        net, num_speakers = self.net, self.net.num_interchangeable
        matcher = SpeakerMatcher(net.sample_rate) if num_speakers else None
        width = max(self.channels, net.num_channels)
        prepared = self._prepare(blocks, width)
        at_model_rate = self._measure(resampled(prepared, width, self.sample_rate, net.sample_rate))
        for batch in _batches(chunks.cut(at_model_rate, self.segment, self.overlap), self.estimator.batch):
            mixtures = [torch.from_numpy(samples) for _, samples in batch]
            for (start, _), mixture, sources in zip(batch, mixtures, self.estimator(mixtures), strict=True):
                self._store.append(start, sources.numpy())
                self._compare(mixture.numpy(), sources.numpy())
                if matcher is not None:
                    matcher.observe(start, sources[:num_speakers], downmix_weights(mixture))
                self._on_progress((start + mixture.shape[-1]) / net.sample_rate)
        if matcher is not None:
            self._orders, self._confidences = matcher.decide()

    def _process_stream(self, blocks: Iterable[np.ndarray]) -> None:
        """Separate without chunks. A network that can stream takes any length in one pass."""
        estimator = self.estimator
        network = self.net.stream(
            lambda mixture, state: estimator.estimate(mixture[None], downmix_weights(mixture)[None], state)[0]
        )
        stream = Stream(network, self.net.sources, self.net.sample_rate, self.sample_rate)
        done, pending = 0, np.zeros((self.channels, 0), np.float32)
        for block in self._prepare(blocks, self.channels):
            stems = stream.push(block)
            self._store.append(done, stems)
            pending = self._compare(np.concatenate([pending, block], axis=1), stems)
            done += stems.shape[-1]
            self._on_progress(self.num_samples / self.sample_rate)
        stems = stream.flush()
        self._store.append(done, stems)
        self._compare(pending, stems)
        self._energy_at_model_rate = self._energy  # the stems were compared at the recording's rate

    def _prepare(self, blocks: Iterable[np.ndarray], width: int) -> Iterator[np.ndarray]:
        """Measure blocks at the recording's rate. Repeat a mono channel until there are `width` channels."""
        for block in blocks:
            self.num_samples += block.shape[-1]
            self._energy += energy(block) / self.sample_rate
            if self._likeness is not None:
                self._likeness.add(block)
            yield block if len(block) == width else np.repeat(block, width, axis=0)

    def _measure(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Measure the energy of blocks at the model's sample rate."""
        for block in blocks:
            self._energy_at_model_rate += energy(block) / self.net.sample_rate
            yield block

    def _compare(self, mixture: np.ndarray, stems: np.ndarray) -> np.ndarray:
        """Add up the energy at the beginning of `mixture` that is in none of the `stems`. Return the rest of it."""
        compared = mixture[:, : stems.shape[-1]]
        self._energy_of_chunks += energy(compared)
        self._energy_missing += energy(compared - stems.sum(0))
        return mixture[:, stems.shape[-1] :]

    def _in_order(self) -> Iterator[Chunk]:
        for number, (start, sources) in enumerate(self._store):
            if self._orders is not None:
                order = self._orders[number]
                sources = sources[[*order, *range(len(order), len(sources))]]
            yield start, sources


def energy(samples: np.ndarray) -> float:
    """Return the energy of `[channel, time]`, as a mean over the channels."""
    return float(np.vdot(samples, samples)) / len(samples)


def resampled(blocks: Iterable[np.ndarray], channels: int, from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """Resample blocks `[channel, time]` in soxr's high quality. Blocks pass unchanged if both rates are equal."""
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
