"""Start a training from another model's weights: from the same network, or from a smaller one that was grown.

A grown network has more repeats at a lower frame rate, attention, or more sources after those of the smaller network.
Repeats at a lower rate add nothing at first, so training continues where the smaller network ended.
(Chen, Goodfellow and Shlens 2016, arXiv:1511.05641.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from separator import zoo
from separator.errors import ConfigError
from separator.models import ConvTasNet

# Arguments that may differ in a grown network.
GROWN = (
    *("repeat_rates", "num_repeats", "num_blocks", "low_rate_bottleneck_channels", "low_rate_hidden_channels"),
    *("attention", "num_sources", "sources"),
)
# For the masks of new sources: factor of the initial weights, and the bias. The masks are nearly silent, but large
# enough that a ReLU still passes a gradient.
NEW_MASK_SCALE, NEW_MASK_BIAS = 0.1, 0.05


def start_from(net: ConvTasNet, model: str) -> None:
    """Copy the weights of another model into a network.

    Args:
        net: the network. It has the model's arguments, or it was grown from the model.
        model: anything that `separator.load` takes.

    Raises:
        ConfigError: if the networks differ in another argument. The message names the first one.
        CheckpointError: if the model cannot be found or used.
    """
    net.load_state_dict(state_from(net, zoo.load(model), model, quiet_sources=True))


def state_from(net: ConvTasNet, other: ConvTasNet, model: str, quiet_sources: bool = False) -> dict[str, Tensor]:
    """Return a network's weights, replaced by those of another network wherever that has them.

    Args:
        net: the network. It has the arguments of the other network, or it was grown from it.
        other: the other network.
        model: name of the other network, for errors.
        quiet_sources: make the masks of sources that the other network lacks nearly silent (default: leave them).

    Raises:
        ConfigError: if the networks differ in another argument. The message names the first one.
    """
    if all(_same(net, other, name) for name in net.arguments if name != "sources"):
        return other.state_dict()
    for name in net.arguments:
        if name not in GROWN and not _same(net, other, name):
            raise _error(model, other, net, name)
    _check_grown(net, other, model)
    state = net.state_dict()
    blocks = _full_rate_blocks(net)
    for name, value in other.state_dict().items():
        if name.startswith("stack.blocks."):
            _, _, number, rest = name.split(".", 3)
            state[f"stack.blocks.{blocks[int(number)]}.{rest}"] = value
        elif name.startswith("to_masks."):
            state[name] = _with_new_sources(state[name], value, net, other, quiet_sources)
        else:
            state[name] = value
    return state


def _check_grown(net: ConvTasNet, other: ConvTasNet, model: str) -> None:
    """Raise `ConfigError` unless `net` was grown from `other`."""
    if max(other.stack.config.rates) > 1:
        name = next(name for name in GROWN if not _same(net, other, name))
        raise _error(model, other, net, name)
    kept = [depth for depth, rate in zip(net.stack.config.depths, net.stack.config.rates, strict=True) if rate == 1]
    if kept != other.stack.config.depths:
        raise ConfigError(
            f"start_from={model}: its repeats have {other.stack.config.depths} blocks, but this run has {kept} at the "
            "full frame rate; they must be the same"
        )
    if net.sources[: other.num_sources] != other.sources and len(net.sources) > other.num_sources:
        raise _error(model, other, net, "sources")
    if net.num_sources < other.num_sources:
        raise _error(model, other, net, "num_sources")


def _full_rate_blocks(net: ConvTasNet) -> list[int]:
    """Numbers of the blocks at the full frame rate."""
    rates = zip(net.stack.config.rates, net.stack.config.depths, strict=True)
    of_block = [rate for rate, depth in rates for _ in range(depth)]
    return [number for number, rate in enumerate(of_block) if rate == 1]


def _with_new_sources(own: Tensor, value: Tensor, net: ConvTasNet, other: ConvTasNet, quiet: bool) -> Tensor:
    """Weights or bias of the masks, `[channel x source x filter, ...]`, with the other network's values copied in."""
    if net.num_sources == other.num_sources:
        return value
    grown = own.clone().unflatten(0, (net.num_channels, net.num_sources, -1))
    if quiet:
        grown = grown * NEW_MASK_SCALE if own.ndim == 2 else torch.full_like(grown, NEW_MASK_BIAS)
    grown[:, : other.num_sources] = value.unflatten(0, (other.num_channels, other.num_sources, -1))
    return grown.flatten(0, 2)


def _same(net: ConvTasNet, other: ConvTasNet, name: str) -> bool:
    return net.arguments[name] == other.arguments[name]


def _error(model: str, other: ConvTasNet, net: ConvTasNet, name: str) -> ConfigError:
    return ConfigError(
        f"start_from={model}: it has model.{name}={other.arguments[name]}, but this run has {net.arguments[name]}; "
        "only a network of the same size, or one with more repeats at a lower frame rate or more sources, can use its "
        "weights"
    )
