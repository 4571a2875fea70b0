"""What the runtimes need of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from torch import Tensor, nn

from separator.models.filterbank import Decoder, Encoder


class Network(Protocol):
    """The parts of `ConvTasNet` that run it in another form, so that the network need not be known here.

    Attributes:
        arguments: the arguments of its constructor.
        norm: norm of the encoded mixture.
        magnitude_norm: norm of the log-magnitudes; None without them.
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
    # `[batch, time]` of whole strides, state -> `[batch, source, time]`
    __call__: Callable[..., Any]

    @property
    def can_stream(self) -> bool:
        """Whether it is causal and its frames do not depend on the length of the mixture."""

    def rectify(self, encoded: Tensor) -> Tensor:
        """The encoder's activation."""

    def consistent(self, estimate: Tensor, mixture: Tensor) -> Tensor:
        """Estimates that sum to the mixture, where the network promises it."""

    def modules(self) -> Iterator[nn.Module]:
        """All its modules."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """All its weights."""
