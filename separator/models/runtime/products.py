"""Matrix products with what follows them in one pass: bias, activation, and the global norm before them.

Part of the fast form, see `separator.models.runtime.cpu_network`.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from separator.models.norms import GlobalNorm
from separator.models.runtime import cpu_kernels

# Frames that go through the blocks at a time: enough to make a product efficient, few enough for the caches.
TILE_FRAMES = 4096
# What can follow a product in the same pass, by oneDNN's names. Beside these there is "leaky_relu", with a slope.
ACTIVATIONS = {"none": lambda values: values, "relu": torch.relu_, "sigmoid": torch.sigmoid_}


class Product:
    """`[frame, input]` -> `[frame, output]`: times a weight `[output, input]`, plus a bias, through an activation."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, activation: str = "none", slope: float = 0.0) -> None:
        self.weight = weight.to(dtype).contiguous()
        self.activation, self.slope = activation, slope
        self._packed = None
        if has_fused(dtype):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, TILE_FRAMES)

    def __call__(self, features: Tensor, bias: Tensor | None = None) -> Tensor:
        """Of the dtype of the features, which must be the weight's."""
        bias = None if bias is None else bias.to(features.dtype)
        if self._packed is not None:
            options = [self.slope] if self.activation == "leaky_relu" else []
            fused = torch.ops.mkldnn._linear_pointwise
            return fused(features, self._packed, bias, self.activation, options, "")
        output = F.linear(features, self.weight, bias)
        if self.activation == "leaky_relu":
            return F.leaky_relu_(output, self.slope)
        return ACTIVATIONS[self.activation](output)


class NormedProduct(Product):
    """A product behind a global norm, taken of what the norm is of: the rest is one scale and a constant."""

    def __init__(self, norm: GlobalNorm, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__(weight * norm.weight, dtype)
        self._norm = norm
        self._sums = self.weight.float().sum(1)
        self._constant = weight @ norm.bias

    def norm_away(self, moments: Moments) -> tuple[float, Tensor]:
        """Scale and constant `[output]`, with which the product is that of the norm."""
        moments.finish(self._norm)
        scale = moments.inverse_deviation
        return scale, self._constant - scale * moments.mean * self._sums


class Moments:
    """Mean and deviation of everything that was added."""

    def __init__(self) -> None:
        self._sum = self._squares = 0.0
        self._count = 0
        self.mean = self.inverse_deviation = 0.0

    def add(self, values: Tensor) -> None:
        """`[frame, channel]`. Sums of rows are taken in their dtype, and those of the rows in float64."""
        sums = cpu_kernels.moments(values)
        if sums is None:
            lengths = torch.linalg.vector_norm(values, dim=1)
            total = float(values.sum(1).sum(dtype=torch.float64))
            sums = total, float(torch.linalg.vector_norm(lengths, dtype=torch.float64)) ** 2
        self.add_sums(sums[0], sums[1], values.numel())

    def add_sums(self, total: float, squares: float, count: int) -> None:
        """The sum of `count` values, and that of their squares."""
        self._sum += total
        self._squares += squares
        self._count += count

    def finish(self, norm: GlobalNorm) -> None:
        """Mean and deviation, with the `eps` of a norm."""
        self.mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - self.mean**2)
        self.inverse_deviation = (variance + norm.eps) ** -0.5


@functools.cache
def has_fused(dtype: torch.dtype) -> bool:
    """Whether this torch has oneDNN's fused operations. They are made for its compiler, and may go with a version."""
    try:
        ops, features = torch.ops.mkldnn, torch.zeros(2, 16, dtype=dtype, device="cpu")
        packed = ops._reorder_linear_weight(features.new_zeros(16, 16), 2)
        ops._linear_pointwise(features, packed, None, "leaky_relu", [0.5], "")
        image = features.view(1, 2, 1, 16).permute(0, 3, 1, 2)
        kernel = features.new_zeros(16, 1, 1, 1)
        ops._convolution_pointwise(image, kernel, None, [0, 0], [1, 1], [1, 1], 16, "leaky_relu", [0.5], "")
    except (AttributeError, RuntimeError, TypeError):
        return False
    return True
