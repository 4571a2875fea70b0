"""A recording that comes in blocks: push samples, get stems."""

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
    """What `Separator.stream` gives. Use it in a `with` statement, or not.

    All that `push` and `flush` return, concatenated, is as long as all that was pushed, and equals what the
    model gives for the whole. A block that is refused changes nothing: the stream goes on with the next.

    Attributes:
        sources: names of the stems, in the order of the output's first axis.
        sample_rate: Hz of the samples in and out.
        latency: seconds, algorithmic: so long after a sample its stems are out at the latest. The time that the
            computation takes comes on top.
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
        # Numbers of the sources that are given; None for all.
        self._chosen = chosen
        # Known with the first block: its shape without time, and with it the channels to resample.
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
        """`[time]` -> `[source, time']`, or `[channel, time]` -> `[source, channel, time']`; time' may be 0.

        Args:
            samples: floating-point Tensor or ndarray, any number of samples, as many channels as at first.

        Returns:
            What is certain by now, as the type that came.

        Raises:
            AudioError: for another type or shape, or values that are not finite.
            StreamError: after `flush`, or after the `with` statement.
        """
        if self._ended:
            raise StreamError(f"the stream was {self._ended}; begin another with Separator.stream()")
        block = audio.as_samples(samples, self.sample_rate, allow_empty=True, name="block")
        self._keep_shape(tuple(samples.shape[:-1]))
        self._received += block.shape[-1]
        self._like = samples[..., :0]
        return self._given_like(self._through(block), samples)

    @independent
    def flush(self) -> Any:
        """The rest, in the shape and type that `push` gives. Nothing can be pushed afterwards.

        Raises:
            StreamError: if it was called before, if nothing was pushed, or after the `with` statement.
        """
        if self._ended or self._shape is None:
            raise StreamError(f"there is nothing to flush: the stream was {self._ended or 'never given a block'}")
        self._ended = "flushed"
        stems = self._through(np.zeros((self._channels, 0), np.float32), last=True)
        return self._given_like(audio.fit_length(stems, self._received - self._given), self._like)

    def _keep_shape(self, shape: tuple[int, ...]) -> None:
        """The first block says how many channels there are; raises `AudioError` for one that says otherwise."""
        if self._shape is None:
            self._shape, self._channels = shape, shape[0] if shape else 1
            self._to_model = sinc_resampler.StreamResampler(self._channels, self.sample_rate, self._model_rate)
            self._back = sinc_resampler.StreamResampler(
                self._channels * len(self.sources), self._model_rate, self.sample_rate
            )
        if shape != self._shape:
            raise AudioError(
                f"expected a block {[*self._shape, 'time']} like those before, got {[*shape, 'time']}; "
                "a stream keeps its channels"
            )

    def _through(self, block: np.ndarray, last: bool = False) -> np.ndarray:
        """`[channel, time]` -> `[source, channel, time']`."""
        mixture = torch.from_numpy(self._to_model.push(block, last))
        estimates = [self._network.push(mixture)] + ([self._network.flush()] if last else [])
        stems = torch.cat(estimates, dim=-1).transpose(0, 1)  # [source, channel, time']
        stems = stems if self._chosen is None else stems[self._chosen]
        back = self._back.push(stems.flatten(0, 1).numpy(), last)
        return back.reshape(len(self.sources), self._channels, back.shape[-1])

    def _given_like(self, stems: np.ndarray, samples: Waveform) -> Waveform:
        self._given += stems.shape[-1]
        return audio.like(stems.reshape(len(self.sources), *samples.shape[:-1], stems.shape[-1]), samples)
