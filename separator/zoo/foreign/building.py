"""Weights of theirs -> a network of ours."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from separator.errors import CheckpointError, ConfigError
from separator.models import ConvTasNet
from separator.zoo import checkpoint

# What a parameter of ours may be called.
SAME = {"weight": ("weight", "gamma", "_filters"), "bias": ("bias", "beta")}


def build(
    arguments: dict[str, Any],
    theirs: Mapping[str, Tensor],
    parts: Mapping[str, str],
    where: Any,
    unused: Collection[str] = (),
    missing: Mapping[str, float] | None = None,
) -> ConvTasNet:
    """A network with weights of theirs.

    Args:
        arguments: of our network.
        theirs: name -> weight.
        parts: part of our network -> the part of theirs that it is.
        where: it comes from.
        unused: names of theirs that are nothing in ours.
        missing: end of a name of ours -> its value, where theirs has none.
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
        raise CheckpointError(f"{where}: it has {left[0]!r}, for which there is no place in separator's ConvTasNet")
    return checkpoint.fill(net, weights, where)


def _shaped(value: Tensor, shape: torch.Size, is_temporal: bool, name: str, where: Any) -> Tensor:
    """A weight in our shape: `[out, in, 1]` is `[out, in]`, a temporal `[channel, 1, tap]` is `[tap, channel]`."""
    if is_temporal and value.ndim == 3 and value.shape[1] == 1:
        value = value[:, 0].T
    if [size for size in value.shape if size != 1] != [size for size in shape if size != 1]:
        raise CheckpointError(f"{where}: {name} is {list(value.shape)}, where {list(shape)} are needed")
    return value.reshape(shape)


def block_parts(
    arguments: dict[str, Any],
    theirs: Mapping[str, Tensor],
    block: Callable[[int], str],
    names: Mapping[str, str],
    where: Any,
) -> dict[str, str]:
    """The parts of all blocks, ours -> theirs: `block` names the one of a number, `names` what is in each."""
    try:
        count = checkpoint.count_blocks(arguments, len(theirs))
    except ConfigError as error:
        raise CheckpointError(f"{where}: describes no network that can be built ({error})") from error
    return {
        f"stack.blocks.{index}.{ours}": f"{block(index)}.{part}"
        for index in range(count)
        for ours, part in names.items()
    }


def numbered(sequence: str) -> dict[str, str]:
    """The parts of a block that stand in an `nn.Sequential` of theirs, in the paper's order."""
    parts = ("expand", "prelu1", "norm1", "temporal", "prelu2", "norm2")
    return {part: f"{sequence}.{number}" for number, part in enumerate(parts)}


def is_state_dict(value: Any) -> bool:
    """Whether it maps names to tensors."""
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(item, Tensor) for name, item in value.items()
    )


def whole(value: Any) -> Any:
    """8000.0 as 8000; anything else as it is, for the network to refuse."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def known(where: Any, key: str, value: Any, table: Mapping[Any, str]) -> str:
    """`table[value]`. Raises `CheckpointError` naming a setting whose value we do not have."""
    try:
        return table[value]
    except (KeyError, TypeError):
        raise unlike(where, key, value, tuple(table)) from None


def unlike(where: Any, key: str, value: Any, known: tuple) -> CheckpointError:
    """The error for a setting whose value we do not have."""
    # Of anything larger the text would grow without bounds.
    shown = repr(value)[:60] if isinstance(value, (str, int, float, type(None))) else f"a {type(value).__name__}"
    return CheckpointError(
        f"{where}: {key}={shown}, which separator's ConvTasNet does not have; it has {', '.join(map(repr, known))}"
    )
