"""Matrix products fused with the steps around them: bias, activation, and the global norm before them.

Part of the fast form, see `separator.models.runtime.cpu_network`.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from separator.models.norms import GlobalNorm
from separator.models.runtime import cpu_kernels

# Frames that go through the blocks at a time: enough for efficient products, few enough for the CPU caches.
TILE_FRAMES = 4096
# Activations that can be fused into a product, by oneDNN's names. "leaky_relu", which has a slope, is another one.
ACTIVATIONS = {"none": lambda values: values, "relu": torch.relu_, "sigmoid": torch.sigmoid_}


class Product:
    """Linear layer with an activation: `[frame, input]` -> `[frame, output]`. The weight is `[output, input]`."""

    def __init__(self, weight: Tensor, dtype: torch.dtype, activation: str = "none", slope: float = 0.0) -> None:
        self.weight = weight.to(dtype).contiguous()
        self.activation, self.slope = activation, slope
        self._packed = None
        if has_fused(dtype):
            self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, TILE_FRAMES)

    def __call__(self, features: Tensor, bias: Tensor | None = None) -> Tensor:
        """Compute the product. The features must have the dtype of the weight, and so has the output."""
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
    """Linear layer with the global norm before it folded in: W norm(x) = scale * (W' x) + constant."""

    def __init__(self, norm: GlobalNorm, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__(weight * norm.weight, dtype)
        self._norm = norm
        self._sums = self.weight.float().sum(1)
        self._constant = weight @ norm.bias

    def norm_away(self, moments: Moments) -> tuple[float, Tensor]:
        """Return the scale and the constant `[output]` that turn the product into the product of the norm's output."""
        moments.finish(self._norm)
        scale = moments.inverse_deviation
        return scale, self._constant - scale * moments.mean * self._sums


class Moments:
    """Mean and inverse standard deviation of all values added so far."""

    def __init__(self) -> None:
        self._sum = self._squares = 0.0
        self._count = 0
        self.mean = self.inverse_deviation = 0.0

    def add(self, values: Tensor) -> None:
        """Add `[frame, channel]`. Rows are summed in their own dtype, and the sums of the rows in float64."""
        sums = cpu_kernels.moments(values)
        if sums is None:
            lengths = torch.linalg.vector_norm(values, dim=1)
            total = float(values.sum(1).sum(dtype=torch.float64))
            sums = total, float(torch.linalg.vector_norm(lengths, dtype=torch.float64)) ** 2
        self.add_sums(sums[0], sums[1], values.numel())

    def add_sums(self, total: float, squares: float, count: int) -> None:
        """Add the sum of `count` values, and the sum of their squares."""
        self._sum += total
        self._squares += squares
        self._count += count

    def finish(self, norm: GlobalNorm) -> None:
        """Compute mean and inverse standard deviation, with the `eps` of a norm."""
        self.mean = self._sum / self._count
        variance = max(0.0, self._squares / self._count - self.mean**2)
        self.inverse_deviation = (variance + norm.eps) ** -0.5


@functools.cache
def has_fused(dtype: torch.dtype) -> bool:
    """Tell whether torch has oneDNN's fused operations. They belong to its compiler, and new versions may lack them."""
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
