"""The memory of causal layers between the blocks of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Largest block in bytes of which a layer may keep a view. From a larger block the kept part is copied, so that the
# rest can be freed.
MAX_HELD = 2**16


class State:
    """The memory of one stream. The caller creates it and passes it to every `forward`.

    Each layer stores its own tensors in it, with the layer as the key. The network stores nothing, so any number of
    streams can share it. A layer without a state treats its input as the whole recording.
    """

    def __init__(self) -> None:
        self._memory: dict[nn.Module, tuple[Tensor, ...]] = {}

    def recall(self, layer: nn.Module) -> tuple[Tensor, ...] | None:
        """Return what `layer` stored at the previous block, None at the first block."""
        return self._memory.get(layer)

    def keep(self, layer: nn.Module, *memory: Tensor) -> None:
        """Store what `layer` needs at the next block."""
        self._memory[layer] = tuple(
            tensor.clone() if tensor.untyped_storage().nbytes() > MAX_HELD else tensor for tensor in memory
        )

    def with_past(self, layer: nn.Module, block: Tensor, length: int) -> Tensor:
        """Prepend the previous `length` frames: `[batch, frame, ...]` -> `[batch, length + frame, ...]`.

        Before the first frame there is silence.
        """
        memory = self.recall(layer)
        past = block.new_zeros(block.shape[0], length, *block.shape[2:]) if memory is None else memory[0]
        extended = torch.cat([past, block], dim=1)
        self.keep(layer, extended.narrow(1, extended.shape[1] - length, length))
        return extended

    def tensors(self) -> list[Tensor]:
        """Return all tensors, always in the same order."""
        return [tensor for memory in self._memory.values() for tensor in memory]

    def replace(self, tensors: Sequence[Tensor]) -> None:
        """Replace all tensors by `tensors`, in the order of `tensors()`."""
        given = iter(tensors)
        self._memory = {layer: tuple(next(given) for _ in memory) for layer, memory in self._memory.items()}

    def copy(self) -> State:
        """Return another state with the same memory."""
        other = State()
        other._memory = dict(self._memory)
        return other
