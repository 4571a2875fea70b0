"""Build our network from weights of other projects."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from separator.errors import CheckpointError, ConfigError
from separator.models import ConvTasNet
from separator.zoo import checkpoint

# Names that other projects use for our parameters.
SAME = {"weight": ("weight", "gamma", "_filters"), "bias": ("bias", "beta")}


def build(
    arguments: dict[str, Any],
    theirs: Mapping[str, Tensor],
    parts: Mapping[str, str],
    where: Any,
    unused: Collection[str] = (),
    missing: Mapping[str, float] | None = None,
) -> ConvTasNet:
    """Build a network with the weights of another project's network.

    Args:
        arguments: arguments of our network.
        theirs: name -> weight in the other network.
        parts: part of our network -> the same part of the other network.
        where: origin of the weights, for errors.
        unused: names in the other network that ours does not need.
        missing: end of a name in our network -> its value, for weights that the other network does not have.
    """
    for name, value in theirs.items():
        checkpoint.check_storage(name, value, where)
    net = checkpoint.blueprint(arguments, len(theirs), where)
    weights, taken = {}, set(unused)
    for name, parameter in net.named_parameters():
        part, _, kind = name.rpartition(".")
        source = parts.get(part, part)
        found = [key for key in (f"{source}.{other}" for other in SAME[kind]) if key in theirs]
        if found:
            taken.add(found[0])
            weights[name] = _shaped(theirs[found[0]], parameter.shape, part.endswith("temporal"), found[0], where)
            continue
        values = [value for end, value in (missing or {}).items() if name.endswith(end)]
        if not values:
            raise CheckpointError(f"{where}: {source}.{kind} is missing; get the file again")
        weights[name] = torch.full(parameter.shape, values[0], dtype=torch.float32, device="cpu")
    if left := sorted(set(theirs) - taken):
        raise CheckpointError(f"{where}: it has {left[0]!r}, which separator's ConvTasNet does not have")
    return checkpoint.fill(net, weights, where)


def _shaped(value: Tensor, shape: torch.Size, is_temporal: bool, name: str, where: Any) -> Tensor:
    """Reshape a weight for our network.

    `[out, in, 1]` becomes `[out, in]`. A temporal `[channel, 1, tap]` becomes `[tap, channel]`.
    """
    if is_temporal and value.ndim == 3 and value.shape[1] == 1:
        value = value[:, 0].T
    if [size for size in value.shape if size != 1] != [size for size in shape if size != 1]:
        raise CheckpointError(f"{where}: {name} has shape {list(value.shape)}, expected {list(shape)}")
    return value.reshape(shape)


def block_parts(
    arguments: dict[str, Any],
    theirs: Mapping[str, Tensor],
    block: Callable[[int], str],
    names: Mapping[str, str],
    where: Any,
) -> dict[str, str]:
    """Map the parts of all blocks, ours -> theirs. `block` gives the name of a block, `names` the parts in each."""
    try:
        count = checkpoint.count_blocks(arguments, len(theirs))
    except ConfigError as error:
        raise CheckpointError(f"{where}: no network can be built from its description ({error})") from error
    return {
        f"stack.blocks.{index}.{ours}": f"{block(index)}.{part}"
        for index in range(count)
        for ours, part in names.items()
    }


def sequential_parts(sequence: str) -> dict[str, str]:
    """Map the parts of a block to positions in their `nn.Sequential`, which has the paper's order."""
    parts = ("expand", "prelu1", "norm1", "temporal", "prelu2", "norm2")
    return {part: f"{sequence}.{number}" for number, part in enumerate(parts)}


def is_state_dict(value: Any) -> bool:
    """Tell whether a value maps names to tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items()
    )


def as_whole(value: Any) -> Any:
    """Convert 8000.0 to 8000. Anything else is unchanged, so that the network refuses it."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def translate(where: Any, key: str, value: Any, table: Mapping[Any, str]) -> str:
    """Return `table[value]`. Raise `CheckpointError` if our network does not support the value of this setting."""
    try:
        return table[value]
    except (KeyError, TypeError):
        raise unsupported(where, key, value, tuple(table)) from None


def unsupported(where: Any, key: str, value: Any, supported: tuple) -> CheckpointError:
    """Make the error for a setting whose value our network does not support."""
    # Only the type of other values, because their text may be very long.
    shown = repr(value)[:60] if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"
    return CheckpointError(
        f"{where}: {key}={shown} is not supported; separator's ConvTasNet has {', '.join(map(repr, supported))}"
    )
