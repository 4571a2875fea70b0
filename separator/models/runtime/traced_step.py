"""Speed up short blocks of a steady size: record the tensor operations once and replay them.

In blocks of a few milliseconds, the network's products take less time than Python needs between them.
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

# `[batch, time]`, a multiple of the stride, and the stream's memory -> `[batch, source, time]`
Step = Callable[[Tensor, State], Tensor]

# Number of blocks of one shape before it is recorded. A recording takes as long as some hundred blocks.
RECORD_AFTER = 10
# Longer blocks gain little.
MAX_FRAMES = 64
MAX_RECORDINGS = 16
# Only one recording at a time in the whole process, because the filter for warnings belongs to the process.
_RECORDING = threading.Lock()


class Replay:
    """A step with exactly the results of `step`, about twice as fast for short blocks of a steady size.

    `step` runs `net`. By default it is `net` itself. Streams can share one `Replay`, also from several threads.
    Two cases are not recorded but run as they are: a network in training mode, whose dropout and weights change from
    block to block, and any network under an outer autocast, which would change the rounding of its products.
    """

    def __init__(self, net: Network, step: Step | None = None) -> None:
        self._net, self._step = net, step or net
        self._longest = MAX_FRAMES * net.encoder.stride
        self._seen: Counter[tuple] = Counter()
        self._recordings: dict[tuple, Any] = {}
        self._weights = _Weights(net)
        self._lock = threading.Lock()

    def __call__(self, mixture: Tensor, state: State) -> Tensor:
        """Separate `[batch, time]` -> `[batch, source, time]`, and update `state`."""
        before = state.tensors()
        can_repeat = not self._net.training and not torch.is_autocast_enabled(mixture.device.type)
        # At the first block of a stream the memory is empty. That block creates it.
        if not before or mixture.shape[-1] > self._longest or not can_repeat:
            return self._step(mixture, state)
        # A recording sees in-place changes of weights, but not weights that were replaced by other tensors.
        if self._weights.were_replaced():
            self._forget()
        # Frames that wait for a complete group vary in number from block to block.
        lengths = tuple(tensor.shape for tensor in before)
        key = (mixture.shape, lengths, mixture.dtype, mixture.device, torch.is_inference_mode_enabled())
        recording = self._recordings.get(key) or self._record(key, mixture, state)
        if recording is None:
            return self._step(mixture, state)
        # The JIT optimizer would delay the first two blocks by a fraction of a second each, without a gain.
        with torch.jit.optimized_execution(False):
            estimates, *after = recording(mixture, *before)
        state.replace(after)
        return estimates

    def __deepcopy__(self, memo: dict) -> Replay:
        """Copy without recordings, because recordings hold the weights of their own network."""
        return Replay(copy.deepcopy(self._net, memo), copy.deepcopy(self._step, memo))

    def __reduce__(self) -> tuple:
        return Replay, (self._net, self._step)

    def _forget(self) -> None:
        with self._lock:
            self._seen.clear()
            self._recordings = {}

    def _record(self, key: tuple, mixture: Tensor, state: State) -> Any:
        """Return the recording for blocks of this shape, if they were frequent enough and it can be made."""
        with self._lock:
            recordings = self._recordings  # `_forget` replaces this dictionary together with the weights
            self._seen[key] += 1
            if self._seen[key] != RECORD_AFTER or len(recordings) >= MAX_RECORDINGS:
                return recordings.get(key)
        # If another thread is recording, do not wait: a later block can be recorded as well.
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
                # Sizes are meant to become constants, and it is known that tracing is deprecated.
                warnings.simplefilter("ignore")
                return torch.jit.trace(step, (mixture, *state.tensors()), check_trace=False)
        except RuntimeError:
            return None


class _Weights:
    """Detects that a parameter, buffer or layer of a network was replaced by another object."""

    def __init__(self, net: Network) -> None:
        self._net = net
        self._find()

    def were_replaced(self) -> bool:
        """Tell whether any was replaced since the last call."""
        # Keep the tensors themselves, because a new tensor may get the id of a deleted one.
        now = chain.from_iterable(self._filled)
        if sum(map(len, self._places)) == len(self._known) and all(map(operator.is_, now, self._known)):
            return False
        self._find()
        return True

    def _find(self) -> None:
        modules = list(self._net.modules())
        self._places = [place for one in modules for place in (one._parameters, one._buffers, one._modules)]
        self._filled = [place.values() for place in self._places if place]  # live views
        self._known = list(chain.from_iterable(self._filled))
