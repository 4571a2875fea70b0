"""The network's forward pass on a CPU in at most half the time: the same weights, prepared.

Apart from the matrix products, most of the time goes into passes over the features. So each pass does as much as
possible:

- oneDNN's product includes the bias and the PReLU. (It is also twice as fast in float32 on AMD, where MKL, which torch
  uses otherwise, leaves half of the vector width unused.)
- The depthwise convolution in cpu_kernels.c also includes bias and PReLU, and computes the moments for the next norm.
  Without a compiler, oneDNN does the convolution. With dilation d, it is a convolution without dilation over every
  d-th frame: `[frame, channel]` is viewed as `[frame / d, d, channel]`, for which oneDNN has a kernel.
- A global norm is one scale and shift for each channel, known once its input is complete. They are folded into the
  kernel or the product that follows. The frames before the first and after the last are then not zeros, but the values
  that the norm maps to zeros.
- The residual and the skip output are one product.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from separator.errors import ConfigError
from separator.models.filterbank import log_magnitude
from separator.models.norms import GlobalNorm
from separator.models.runtime import cpu_kernels
from separator.models.runtime.network import Network
from separator.models.runtime.products import ACTIVATIONS, TILE_FRAMES, Moments, NormedProduct, Product, has_fused
from separator.models.state import State
from separator.models.temporal import DepthwiseConv

# Frames whose masks are in memory at the same time. Each has one mask value per source and filter.
MASK_FRAMES = 512
# A norm weight near 0 cannot be inverted at the edges. It is replaced by this value, which is inaudible.
MIN_SCALE = 1e-6
# glibc returns larger blocks to the system and requests them anew each time, until one such block has been freed.
USUAL_BLOCK_BYTES = 2**25 - 2**12


class FastConvTasNet:
    """The function of a `ConvTasNet` for whole recordings on a CPU, without gradients.

    It equals the network up to rounding: about 100 dB in float32 and 40 dB in bfloat16. With bfloat16, the products and
    the features between them are in bfloat16, while sums, encoder and decoder stay in float32. Later changes of the
    network's weights have no effect.

    Args:
        net: a network with depthwise convolutions and global norms, on the CPU.
        dtype: dtype of the products, float32 or bfloat16.

    Raises:
        ConfigError: if the network is of another kind.
    """

    def __init__(self, net: Network, dtype: torch.dtype = torch.float32) -> None:
        if not is_supported(net):
            raise ConfigError(
                "this network has no fast form: that needs one channel, temporal='depthwise' padded with zeros, "
                "norm='global', the CPU and float32; use the network itself"
            )
        self.net, self.dtype = net, dtype
        with torch.no_grad():
            norms: list[Any] = [norm for norm in (net.norm, net.magnitude_norm) if norm is not None]
            widths = [norm.weight.numel() for norm in norms]
            parts = net.bottleneck.weight.split(widths, dim=1)
            self._bottleneck = [NormedProduct(norm, part, dtype) for norm, part in zip(norms, parts, strict=True)]
            self._stages = [FastStage(net.stack, stage, dtype) for stage in net.stack.stages]
            fused = net.arguments["mask"] if net.arguments["mask"] != "softmax" else "none"
            self._to_masks = Product(net.to_masks.weight, dtype, fused)
            self._decode = Product(net.decoder.weight.T, torch.float32)
        torch.empty(USUAL_BLOCK_BYTES, dtype=torch.uint8, device="cpu")

    @torch.inference_mode()
    def __call__(self, mixture: Tensor) -> Tensor:
        """Separate `[batch, time]` -> `[batch, source, time]`, like the network's `forward`."""
        return self.separate_channels(mixture[:, None], mixture.new_ones(len(mixture), 1))[:, 0]

    @torch.inference_mode()
    def separate_channels(self, mixture: Tensor, weights: Tensor, state: State | None = None) -> Tensor:
        """Separate `[batch, channel, time]` -> `[batch, channel, source, time]`, as the network does without state."""
        if state is not None:
            raise ConfigError("the fast form of a network needs whole recordings; use the network itself to stream")
        return torch.stack([self._separate(*item) for item in zip(mixture, weights, strict=True)])

    def _separate(self, mixture: Tensor, weights: Tensor) -> Tensor:
        """Separate `[channel, time]` -> `[channel, source, time]`."""
        net = self.net
        encoded = net.encoder(mixture)
        heard = encoded[0] * weights if len(weights) == 1 else torch.tensordot(weights, encoded, 1)
        features = self._estimate_features(net.rectify(heard))
        coefficients = net.rectify(encoded)
        windows = mixture.new_empty(len(mixture), net.num_sources, features.shape[0], net.decoder.filter_length)
        for start, end in _tiles(features.shape[0], MASK_FRAMES):
            scores = self._to_masks(features[start:end].to(self.dtype), net.to_masks.bias).float()
            masks = scores.unflatten(-1, (net.num_sources, -1))
            if net.arguments["mask"] == "softmax":
                masks = masks.softmax(1)
            for channel, own in enumerate(coefficients[:, start:end, None]):
                samples = self._decode((masks * own).flatten(0, 1)).unflatten(0, masks.shape[:2])
                windows[channel, :, start:end] = samples.transpose(0, 1)
        return net.consistent(net.decoder.place(windows, mixture.shape[-1]), mixture)

    def _estimate_features(self, coefficients: Tensor) -> Tensor:
        """Compute the input of the mask layer: `[frame, filter]` -> `[frame, feature]`."""
        net = self.net
        shift: Tensor = net.bottleneck.bias
        inputs = [coefficients]
        if net.magnitude_norm is not None:
            inputs.append(log_magnitude(coefficients))
        features: Tensor | float = 0.0
        for product, values in zip(self._bottleneck, inputs, strict=True):
            moments = Moments()
            parts = []
            for start, end in _tiles(len(values), MASK_FRAMES):
                moments.add(values[start:end])
                parts.append(product(values[start:end].to(self.dtype)).float())
            scale, constant = product.norm_away(moments)
            features = features + scale * torch.cat(parts)
            shift = shift + constant
        assert isinstance(features, Tensor)
        at_full_rate = [block for stage in self._stages if stage.low is None for block in stage.blocks]
        stack = FastStack(features, shift, net.arguments["skip_channels"], at_full_rate)
        for stage in self._stages:
            stage.run(stack)
        return F.prelu(stack.result(), net.prelu.weight)


class FastStage:
    """Consecutive repeats of a `SeparableStack` at one frame rate."""

    def __init__(self, stack: Any, stage: Any, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.repeats = [[FastBlock(block, dtype) for block in stack.blocks[start:end]] for start, end in stage.repeats]
        self.low: Any = None
        self.attentions: list[Any] = []
        if stage.rate > 1:
            self.low = stack.low_rates[stage.number]
            self._gather, self._spread = (Product(layer.weight, dtype) for layer in (self.low.gather, self.low.spread))
            first = stage.first_attention
            self.attentions = list(stack.attentions)[first : first + len(self.repeats)]

    @property
    def blocks(self) -> list[FastBlock]:
        """All blocks in order."""
        return [block for repeat in self.repeats for block in repeat]

    def run(self, stack: FastStack) -> None:
        """Run the features through the repeats."""
        if self.low is None:
            for block in self.blocks:
                stack.advance(block, self.dtype)
            return
        features, rate = stack.result(), self.low.rate
        groups = F.pad(features, (0, 0, 0, -len(features) % rate)).unflatten(0, (-1, rate)).flatten(1)
        inner = FastStack(self._gather(groups.to(self.dtype)).float(), self.low.gather.bias, 0, self.blocks)
        for number, repeat in enumerate(self.repeats):
            for block in repeat:
                inner.advance(block, self.dtype)
            if self.attentions:
                inner.add(self.attentions[number].attend(inner.result()[None])[0])
        spread = self._spread(inner.result().to(self.dtype), self.low.spread.bias).float()
        stack.add(spread.unflatten(1, (rate, -1)).flatten(0, 1)[: len(features)])


class FastStack:
    """The data that the blocks pass on: the features, and next to them the sum of the skip outputs so far.

    The part that is the same for all frames is kept apart, as `shift`, so that no pass is needed to add it.
    """

    def __init__(self, features: Tensor, shift: Tensor, skip_channels: int, blocks: list[FastBlock]) -> None:
        self.num_frames, self.num_features = features.shape
        self.before = max(block.reach for block in blocks)
        behind = max(block.reach + block.dilation for block in blocks)
        self.sums = F.pad(features, (0, skip_channels, self.before, behind))
        self.shift = F.pad(shift, (0, skip_channels))

    def advance(self, block: FastBlock, dtype: torch.dtype) -> None:
        """Run one block."""
        tiles = list(_tiles(self.num_frames, TILE_FRAMES))
        bias = torch.addmv(block.expand_bias, block.expand_weight, self.shift[: self.num_features])
        moments, hidden = Moments(), []
        for start, end in tiles:
            first = self.before + start - block.reach
            rows = self.sums[first : first + block.rows(end - start), : self.num_features]
            hidden.append(block.expand(rows.to(dtype).contiguous(), bias))
            moments.add(hidden[-1][block.reach : block.reach + end - start])
        kernel, bias, edge = block.norm_away(moments)
        moments, outputs = Moments(), []
        hidden.reverse()
        for start, end in tiles:
            rows = hidden.pop()  # no other reference is left, so that its memory can be reused
            rows[: max(0, block.reach - start)] = edge
            rows[block.reach + self.num_frames - start :] = edge
            rows = block.convolve(rows, kernel, bias, end - start, moments)
            outputs.append(block.out(rows))
            del rows
        scale, constant = block.out.norm_away(moments)
        for (start, end), output in zip(tiles, outputs, strict=True):
            self.sums[self.before + start : self.before + end, block.first_output :].add_(output, alpha=scale)
        self.shift[block.first_output :] += constant + block.out_bias

    def add(self, values: Tensor) -> None:
        """Add `[frame, channel]` to the features."""
        self.sums[self.before : self.before + self.num_frames, : self.num_features] += values

    def result(self) -> Tensor:
        """The sum of the skip outputs, or the features if there are no skip outputs: `[frame, channel]`."""
        first = self.num_features if self.sums.shape[1] > self.num_features else 0
        return self.sums[self.before : self.before + self.num_frames, first:] + self.shift[first:]


class FastBlock:
    """The weights of a `SeparableBlock`, and its two passes."""

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        temporal = block.temporal
        self.dtype, self.dilation, self.reach = dtype, temporal.dilation, temporal.left
        self.expand = Product(block.expand.weight, dtype, "leaky_relu", float(block.prelu1.weight))
        self.expand_weight, self.expand_bias = block.expand.weight, block.expand.bias
        self.norm, self.kernel, self.bias = block.norm1, temporal.weight, temporal.bias
        small = self.norm.weight.abs() < MIN_SCALE
        self.norm_weight = self.norm.weight.masked_fill(small, MIN_SCALE)
        self.kernel_sums = self.kernel.sum(0)
        self.slope = float(block.prelu2.weight)
        outputs = [layer for layer in (block.residual, block.skip) if layer is not None]
        # If there are skip outputs, the last block has no residual output. Skip outputs come after the features.
        self.first_output = 0 if block.residual is not None else block.expand.in_features
        self.out = NormedProduct(block.norm2, torch.cat([layer.weight for layer in outputs]), dtype)
        self.out_bias = torch.cat([layer.bias for layer in outputs])

    def rows(self, frames: int) -> int:
        """Count the input frames for `frames` output frames: whole dilations, and the reach on both sides."""
        return (-(-frames // self.dilation) + len(self.kernel) - 1) * self.dilation

    def norm_away(self, moments: Moments) -> tuple[Tensor, Tensor, Tensor]:
        """Fold the norm into kernel `[tap, channel]` and bias `[channel]`. Also return the input that it maps to 0."""
        moments.finish(self.norm)
        scale = self.norm_weight * moments.inverse_deviation
        shift = self.norm.bias - scale * moments.mean
        return self.kernel * scale, self.bias + shift * self.kernel_sums, -shift / scale

    def convolve(self, rows: Tensor, kernel: Tensor, bias: Tensor, frames: int, moments: Moments) -> Tensor:
        """Return the first `frames` of the convolution of `rows`, after the PReLU. Add them to `moments`."""
        within = rows[: frames + (len(kernel) - 1) * self.dilation]
        done = cpu_kernels.depthwise(within, kernel, bias, self.slope, self.dilation)
        if done is not None:
            output, total, squares = done
            moments.add_sums(total, squares, output.numel())
            return output
        channels = rows.shape[1]
        weight = kernel.T[:, None, :, None].to(self.dtype)
        image = rows.view(1, -1, self.dilation, channels)
        if self.dilation == 1:  # faster along the other axis
            weight, image = weight.mT, rows.view(1, 1, -1, channels)
        image, bias = image.permute(0, 3, 1, 2), bias.to(self.dtype)
        if has_fused(self.dtype):
            fused = torch.ops.mkldnn._convolution_pointwise
            output = fused(image, weight, bias, [0, 0], [1, 1], [1, 1], channels, "leaky_relu", [self.slope], "")
        else:
            output = F.leaky_relu_(F.conv2d(image, weight, bias, groups=channels), self.slope)
        output = output.permute(0, 2, 3, 1).reshape(-1, channels)[:frames]
        moments.add(output)
        return output


def is_supported(net: Network) -> bool:
    """Tell whether a network has a fast form."""
    blocks: list[Any] = list(net.stack.blocks)
    return (
        net.num_channels == 1
        and net.arguments["mask"] in (*ACTIVATIONS, "softmax")
        and all(type(block.temporal) is DepthwiseConv and not block.temporal.causal for block in blocks)
        and all(block.temporal.padding == "zeros" for block in blocks)
        and type(net.norm) is GlobalNorm
        and all(type(norm) is GlobalNorm for block in blocks for norm in (block.norm1, block.norm2))
        and all(weight.device.type == "cpu" and weight.dtype is torch.float32 for weight in net.parameters())
    )


def _tiles(num_frames: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of parts of about equal length."""
    count = -(-num_frames // longest)
    for number in range(count):
        yield num_frames * number // count, num_frames * (number + 1) // count
