"""The same short block again and again: its tensor operations, recorded once and replayed.

In blocks of a few milliseconds the network's products take less time than Python needs between them.
"""

from __future__ import annotations

import copy
import operator
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from separator.models.runtime.network import Network
from separator.models.state import State

# `[batch, time]` of whole strides, and the stream's memory -> `[batch, source, time]`
Step = Callable[[Tensor, State], Tensor]

# Blocks of one shape after which it is recorded, which takes as long as some hundred of them.
RECORD_AFTER = 10
# Longer blocks gain little.
MAX_FRAMES = 64
MAX_RECORDINGS = 16
# One recording at a time in the whole process: which warnings are shown is a setting of the process.
_RECORDING = threading.Lock()


class Replay:
    """A step that does what `step` does, bit for bit, about twice as fast for short blocks of a steady size.

    `step` runs `net` and is `net` itself if not given. Can be shared by streams, also of several threads. What
    cannot be recorded is run as it is: a network that is training, whose dropout and weights change from block to
    block, and any under autocast from outside, whose products would be rounded otherwise.
    """

    def __init__(self, net: Network, step: Step | None = None) -> None:
        self._net, self._step = net, step or net
        self._longest = MAX_FRAMES * net.encoder.stride
        self._seen: Counter[tuple] = Counter()
        self._recordings: dict[tuple, Any] = {}
        self._weights = _Weights(net)
        self._lock = threading.Lock()

    def __call__(self, mixture: Tensor, state: State) -> Tensor:
        """`[batch, time]` -> `[batch, source, time]`; brings `state` up to date."""
        before = state.tensors()
        can_repeat = not self._net.training and not torch.is_autocast_enabled(mixture.device.type)
        # The first block of a stream finds no memory, and makes it.
        if not before or mixture.shape[-1] > self._longest or not can_repeat:
            return self._step(mixture, state)
        # A recording follows weights that change in their place, but not others that are put there.
        if self._weights.were_replaced():
            self._forget()
        # What waits for a group of frames to be complete has another length from block to block.
        lengths = tuple(tensor.shape for tensor in before)
        key = (mixture.shape, lengths, mixture.dtype, mixture.device, torch.is_inference_mode_enabled())
        recording = self._recordings.get(key) or self._record(key, mixture, state)
        if recording is None:
            return self._step(mixture, state)
        # The optimizer would stop the first two blocks for a fraction of a second each, for nothing.
        with torch.jit.optimized_execution(False):
            estimates, *after = recording(mixture, *before)
        state.replace(after)
        return estimates

    def __deepcopy__(self, memo: dict) -> Replay:
        """One that has recorded nothing: recordings hold the weights of their own network."""
        return Replay(copy.deepcopy(self._net, memo), copy.deepcopy(self._step, memo))

    def __reduce__(self) -> tuple:
        return Replay, (self._net, self._step)

    def _forget(self) -> None:
        with self._lock:
            self._seen.clear()
            self._recordings = {}

    def _record(self, key: tuple, mixture: Tensor, state: State) -> Any:
        """The recording for blocks of this shape, if they came often enough and it can be made."""
        with self._lock:
            recordings = self._recordings  # others are in its place when the weights are
            self._seen[key] += 1
            if self._seen[key] != RECORD_AFTER or len(recordings) >= MAX_RECORDINGS:
                return recordings.get(key)
        # Whoever must wait does not: a later block can be recorded as well.
        if any(weight.requires_grad for weight in self._net.parameters()) or not _RECORDING.acquire(blocking=False):
            self._seen[key] = 0
            return None
        try:
            recording = self._traced(mixture, state)
        finally:
            _RECORDING.release()
        if recording is not None:
            recordings[key] = recording
        return recording

    def _traced(self, mixture: Tensor, state: State) -> Any:
        def step(mixture: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
            replayed = state.copy()
            replayed.replace(before)
            return (self._step(mixture, replayed), *replayed.tensors())

        try:
            with warnings.catch_warnings():
                # That sizes become constants is meant, and that tracing is on its way out is known.
                warnings.simplefilter("ignore")
                return torch.jit.trace(step, (mixture, *state.tensors()), check_trace=False)
        except RuntimeError:
            return None


class _Weights:
    """Tells whether parameters, buffers or layers of a network have others in their place."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._find()

    def were_replaced(self) -> bool:
        """Whether any was since the last time."""
        # The tensors themselves are kept, since another one may get the identity of one that is gone.
        now = chain.from_iterable(self._filled)
        if sum(map(len, self._places)) == len(self._known) and all(map(operator.is_, now, self._known)):
            return False
        self._find()
        return True

    def _find(self) -> None:
        modules = list(self._net.modules())
        self._places = [place for one in modules for place in (one._parameters, one._buffers, one._modules)]
        self._filled = [place.values() for place in self._places if place]  # which show what is in them at any time
        self._known = list(chain.from_iterable(self._filled))
