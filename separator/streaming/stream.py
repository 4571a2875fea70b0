"""Separation of audio that arrives in blocks: push samples, get stems."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
import torch

from separator.devices import independent
from separator.errors import AudioError, StreamError
from separator.io import audio
from separator.io.audio import Waveform
from separator.models import NetworkStream
from separator.streaming import sinc_resampler


class Stream:
    """A stream, as returned by `Separator.stream`. It can be used in a `with` statement.

    The concatenated output of `push` and `flush` has the length of the input, and equals the output of the model for
    the whole recording. If a block is rejected, the stream does not change, and accepts the next block.

    Attributes:
        sources: names of the stems, in the order of the first axis of the output.
        sample_rate: sample rate of the input and the output, in Hz.
        latency: algorithmic latency in seconds, which is the maximum delay between a sample and its stems. Computing
            time is not included.
    """

    def __init__(
        self,
        network: NetworkStream,
        sources: tuple[str, ...],
        model_rate: int,
        sample_rate: int,
        chosen: list[int] | None = None,
    ) -> None:
        audio.check_rate(sample_rate)
        self.sources, self.sample_rate = sources, sample_rate
        self.latency = (
            sinc_resampler.latency(sample_rate, model_rate)
            + network.latency_samples / model_rate
            + sinc_resampler.latency(model_rate, sample_rate)
        )
        self._network, self._model_rate = network, model_rate
        # Indices of the sources to return. None for all.
        self._chosen = chosen
        # Shape of a block without time. It is known after the first block.
        self._shape: tuple[int, ...] | None = None
        self._like: Any = None
        self._received = self._given = 0
        self._ended = ""

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = self._ended or "closed"

    @independent
    def push(self, samples: Waveform) -> Waveform:
        """Add samples to the stream and return the stems that are complete.

        Args:
            samples: floating-point Tensor or ndarray `[time]` or `[channel, time]`. Any number of samples, and the
                same shape except for time in each call.

        Returns:
            `[source, time']` or `[source, channel, time']`, in the type of `samples`. time' may be 0.

        Raises:
            AudioError: if `samples` has another type or shape, or values that are not finite.
            StreamError: after `flush`, or after the `with` statement.
        """
        if self._ended:
            raise StreamError(f"the stream was {self._ended}; start a new stream with Separator.stream()")
        block = audio.as_samples(samples, self.sample_rate, allow_empty=True, name="block")
        self._keep_shape(tuple(samples.shape[:-1]))
        self._received += block.shape[-1]
        self._like = samples[..., :0]
        return self._count_and_convert(self._separate(block), samples)

    @independent
    def flush(self) -> Any:
        """End the stream and return the remaining stems, in the shape and type that `push` returns.

        Nothing can be pushed afterwards.

        Raises:
            StreamError: if it was called before, if nothing was pushed, or after the `with` statement.
        """
        if self._ended or self._shape is None:
            raise StreamError(f"there is nothing to flush: the stream was {self._ended or 'never given a block'}")
        self._ended = "flushed"
        stems = self._separate(np.zeros((self._channels, 0), np.float32), last=True)
        return self._count_and_convert(audio.fit_length(stems, self._received - self._given), self._like)

    def _keep_shape(self, shape: tuple[int, ...]) -> None:
        """Keep the shape of the first block. Raise `AudioError` for a later block with another shape."""
        if self._shape is None:
            self._shape, self._channels = shape, shape[0] if shape else 1
            self._to_model = sinc_resampler.StreamResampler(self._channels, self.sample_rate, self._model_rate)
            self._back = sinc_resampler.StreamResampler(
                self._channels * len(self.sources), self._model_rate, self.sample_rate
            )
        if shape != self._shape:
            raise AudioError(
                f"expected a block {[*self._shape, 'time']} like the earlier blocks, got {[*shape, 'time']}; "
                "do not change the number of channels within a stream"
            )

    def _separate(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """Separate `[channel, time]` into `[source, channel, time']`."""
        mixture = torch.from_numpy(self._to_model.push(block, last))
        estimates = [self._network.push(mixture)] + ([self._network.flush()] if last else [])
        stems = torch.cat(estimates, dim=-1).transpose(0, 1)  # [source, channel, time']
        stems = stems if self._chosen is None else stems[self._chosen]
        back = self._back.push(stems.flatten(0, 1).numpy(), last)
        return back.reshape(len(self.sources), self._channels, back.shape[-1])

    def _count_and_convert(self, stems: np.ndarray, samples: Waveform) -> Waveform:
        self._given += stems.shape[-1]
        return audio.like(stems.reshape(len(self.sources), *samples.shape[:-1], stems.shape[-1]), samples)
