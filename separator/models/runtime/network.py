"""The interface that the runtimes need from a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from separator.models.filterbank import Decoder, Encoder


class Network(Protocol):
    """The parts of `ConvTasNet` that other runtimes use. With this protocol they do not import the network itself.

    Attributes:
        arguments: arguments of its constructor.
        norm: norm of the encoded mixture.
        magnitude_norm: norm of the log-magnitudes. None if they are not used.
    """

    training: bool
    causal: bool
    sample_rate: int
    num_sources: int
    num_channels: int
    arguments: dict[str, Any]
    encoder: Encoder
    decoder: Decoder
    norm: nn.Module
    magnitude_norm: nn.Module | None
    bottleneck: Any
    stack: Any
    prelu: Any
    to_masks: Any
    # `[batch, time]`, a multiple of the stride, and a state -> `[batch, source, time]`
    __call__: Callable[..., Any]

    @property
    def can_stream(self) -> bool:
        """Whether it is causal and its frames do not depend on the length of the mixture."""

    def rectify(self, encoded: Tensor) -> Tensor:
        """Apply the encoder's activation."""

    def consistent(self, estimate: Tensor, mixture: Tensor) -> Tensor:
        """Make the estimates sum to the mixture, if the network has mixture consistency."""

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over all modules."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over all weights."""
