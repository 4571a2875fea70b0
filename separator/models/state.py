"""What causal layers remember between the blocks of a stream."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class State:
    """The memory of one stream, made by whoever runs it and handed to every `forward` along the way.

    Each layer keeps its own memory in it, under itself; nothing is stored in the network, so that any number of
    streams can share one. A layer that is given no state takes its input for the whole recording.
    """

    def __init__(self) -> None:
        self._memory: dict[nn.Module | str, Any] = {}

    def branch(self, name: str) -> State:
        """A memory of its own for a second pass through the same layers."""
        return self._memory.setdefault(name, State())

    def recall(self, layer: nn.Module) -> Any:
        """What `layer` kept at the block before; None at the first."""
        return self._memory.get(layer)

    def keep(self, layer: nn.Module, memory: Any) -> None:
        """Stores what `layer` must know at the next block."""
        self._memory[layer] = memory

    def with_past(self, layer: nn.Module, block: Tensor, length: int) -> Tensor:
        """`[batch, frame, ...]` -> `[batch, length + frame, ...]`: the block after the `length` frames before it.

        Before the first frame there is silence.
        """
        past = self.recall(layer)
        if past is None:
            past = block.new_zeros(block.shape[0], length, *block.shape[2:])
        extended = torch.cat([past, block], dim=1)
        self.keep(layer, extended[:, extended.shape[1] - length :])
        return extended
