"""What causal layers remember between the blocks of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Bytes of a block that the end of it, which a layer keeps, may hold back with it; of larger ones it is copied.
MAX_HELD = 2**16


class State:
    """The memory of one stream, made by whoever runs it and handed to every `forward` along the way.

    Each layer keeps its own memory in it, under itself, tensors only; nothing is stored in the network, so that
    any number of streams can share one. A layer that is given no state takes its input for the whole recording.
    """

    def __init__(self) -> None:
        self._memory: dict[nn.Module, tuple[Tensor, ...]] = {}

    def recall(self, layer: nn.Module) -> tuple[Tensor, ...] | None:
        """What `layer` kept at the block before; None at the first."""
        return self._memory.get(layer)

    def keep(self, layer: nn.Module, *memory: Tensor) -> None:
        """Stores what `layer` must know at the next block."""
        self._memory[layer] = tuple(
            tensor.clone() if tensor.untyped_storage().nbytes() > MAX_HELD else tensor for tensor in memory
        )

    def with_past(self, layer: nn.Module, block: Tensor, length: int) -> Tensor:
        """`[batch, frame, ...]` -> `[batch, length + frame, ...]`: the block after the `length` frames before it.

        Before the first frame there is silence.
        """
        memory = self.recall(layer)
        past = block.new_zeros(block.shape[0], length, *block.shape[2:]) if memory is None else memory[0]
        extended = torch.cat([past, block], dim=1)
        self.keep(layer, extended.narrow(1, extended.shape[1] - length, length))
        return extended

    def tensors(self) -> list[Tensor]:
        """Everything in it, in an order that stays."""
        return [tensor for memory in self._memory.values() for tensor in memory]

    def replace(self, tensors: Sequence[Tensor]) -> None:
        """Puts others, in the order of `tensors`, in the place of everything in it."""
        given = iter(tensors)
        self._memory = {layer: tuple(next(given) for _ in memory) for layer, memory in self._memory.items()}

    def copy(self) -> State:
        """Another with the same memory."""
        other = State()
        other._memory = dict(self._memory)
        return other
