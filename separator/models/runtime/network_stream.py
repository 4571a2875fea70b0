"""Run a causal network on a mixture that arrives in blocks of any size."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from separator.errors import StreamError
from separator.models.filterbank import num_frames
from separator.models.runtime.network import Network
from separator.models.runtime.traced_step import Replay, Step
from separator.models.state import State

# Longer blocks are split, so that memory use does not grow with the block.
MAX_PIECE_SECONDS = 10.0


def check_can_stream(net: Network) -> None:
    """Raise `StreamError` unless a network can run block by block: it must be causal, with framing "full"."""
    if net.can_stream:
        return
    if not net.causal:
        raise StreamError("this model looks ahead and cannot stream; use a causal one, such as 'default-causal'")
    raise StreamError(
        f"this model's frames need whole recordings (framing={net.encoder.framing!r}, from another project); use "
        "one that was trained here, such as 'default-causal'"
    )


class NetworkStream:
    """A stream through a causal network.

    The outputs of `push` and `flush`, concatenated, equal the network's output for the whole mixture. Each stream has
    its own memory, and the network keeps none. So one network can run many streams. `step`, if given, replaces the
    network's `forward`.

    Raises:
        StreamError: as `check_can_stream`.
    """

    def __init__(self, net: Network, step: Step | None = None) -> None:
        check_can_stream(net)
        self._net, self._state, self._stride = net, State(), net.encoder.stride
        self._step = step or Replay(net)
        self._longest = max(1, round(MAX_PIECE_SECONDS * net.sample_rate) // self._stride) * self._stride
        self._pending: Tensor | None = None
        self._received = self._given = 0
        # The first output samples belong to the time before the first input sample. They are dropped.
        self._too_early = net.decoder.delay
        self._flushed = False

    def __deepcopy__(self, memo: dict) -> NetworkStream:
        """Copy the stream at its current position. Both use the same network."""
        other = copy.copy(self)
        other._state = self._state.copy()
        return other

    @property
    def latency_samples(self) -> int:
        """Algorithmic latency in samples.

        An output sample is complete when this many input samples have arrived, counted from its own position.
        """
        return self._net.decoder.filter_length

    def push(self, mixture: Tensor) -> Tensor:
        """Push a block `[batch, time]`. Returns the output that is complete, `[batch, source, time']`, possibly empty.

        Raises:
            ValueError: for a wrong shape or dtype, a changed batch size, or values that are not finite. The stream is
                then unchanged.
            StreamError: after `flush`.
        """
        if self._flushed:
            raise StreamError("the stream was flushed and has ended; start another with net.stream()")
        self._check(mixture)
        with torch.inference_mode():
            extended = mixture if self._pending is None else torch.cat([self._pending, mixture], dim=-1)
            whole = extended.shape[-1] // self._stride * self._stride
            # Not a view, because the caller may reuse the block's memory.
            self._pending = extended[:, whole:].clone()
            self._received += mixture.shape[-1]
            estimates = self._advance(extended[:, :whole])
        return estimates.clone()  # made outside inference mode: a normal tensor

    def flush(self) -> Tensor:
        """End the stream. Returns the rest of the output, `[batch, source, time']`. Nothing can be pushed afterwards.

        Raises:
            StreamError: if it was called before, or nothing was ever pushed.
        """
        if self._flushed or self._pending is None:
            raise StreamError(
                "nothing to flush: " + ("the stream was flushed before" if self._flushed else "no block was pushed")
            )
        self._flushed = True
        missing = 0
        if self._received:
            frames = num_frames(self._received, self._net.decoder.filter_length, self._stride)
            missing = frames * self._stride - self._received
        with torch.inference_mode():
            estimates = self._advance(torch.nn.functional.pad(self._pending, (0, missing)))
        return estimates[..., : estimates.shape[-1] - (self._given - self._received)].clone()

    def _check(self, mixture: Tensor) -> None:
        if not isinstance(mixture, Tensor):
            raise ValueError(f"expected a Tensor, got {type(mixture).__name__}")
        if mixture.ndim != 2 or (self._pending is not None and mixture.shape[0] != self._pending.shape[0]):
            batch = "batch" if self._pending is None else self._pending.shape[0]
            raise ValueError(f"expected a block [{batch}, time], got {list(mixture.shape)}")
        wanted = self._net.encoder.weight.dtype
        if mixture.dtype != wanted:
            raise ValueError(f"expected a block of dtype {wanted}, like the network's weights, got {mixture.dtype}")
        if not mixture.isfinite().all():
            raise ValueError("expected finite samples, got a block with NaN or infinity")

    def _advance(self, mixture: Tensor) -> Tensor:
        """Run the network on `[batch, time]`, a multiple of the stride -> `[batch, source, time']`."""
        if mixture.shape[-1] == 0:
            return mixture.new_zeros(mixture.shape[0], self._net.num_sources, 0)
        pieces = [self._step(piece, self._state) for piece in mixture.split(self._longest, dim=-1)]
        estimates = torch.cat(pieces, dim=-1)
        skipped = min(self._too_early, estimates.shape[-1])
        self._too_early -= skipped
        self._given += estimates.shape[-1] - skipped
        return estimates[..., skipped:]
