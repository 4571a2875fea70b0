"""Convert torchaudio's ConvTasNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from separator.errors import CheckpointError
from separator.models import ConvTasNet
from separator.zoo.foreign.building import block_parts, build, sequential_parts


def convert(
    theirs: Mapping[str, Tensor],
    where: Any,
    sample_rate: int,
    num_blocks: int,
    mask: str,
) -> ConvTasNet:
    """Convert torchaudio's `ConvTasNet` from its state dict, and from the settings that a state dict does not contain.

    Args:
        theirs: the state dict.
        where: origin of the state dict, for errors.
        sample_rate: rate of its training data in Hz.
        num_blocks: blocks in a repeat, torchaudio's `msk_num_layers`.
        mask: torchaudio's `msk_activate`: by default "sigmoid", in torchaudio's bundle "relu".

    Raises:
        CheckpointError: if it is not such a state dict, or does not fit the other arguments. The error names `where`.
    """
    body = "mask_generator.conv_layers"
    try:
        filters, _, length = theirs["encoder.weight"].shape
        hidden, bottleneck, _ = theirs[f"{body}.0.conv_layers.0.weight"].shape
        outputs = theirs["mask_generator.output_conv.weight"].shape[0]
        skip = theirs[f"{body}.0.skip_out.weight"].shape[0]
        kernel = theirs[f"{body}.0.conv_layers.3.weight"].shape[-1]
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise CheckpointError(f"{where}: not a state dict of torchaudio's ConvTasNet ({error})") from error
    count = len({key.split(".")[2] for key in theirs if key.startswith(f"{body}.")})
    if count % num_blocks:
        raise CheckpointError(
            f"{where}: {count} blocks are not a multiple of num_blocks={num_blocks}; give the right number"
        )
    if length % 2:
        raise CheckpointError(
            f"{where}: filters of {length} samples; an odd length is not supported, because torchaudio places such "
            "filters differently"
        )
    wanted = {
        "num_sources": outputs // filters,
        "sample_rate": sample_rate,
        "num_filters": filters,
        "filter_length": length,
        "bottleneck_channels": bottleneck,
        "skip_channels": skip,
        "hidden_channels": hidden,
        "kernel_size": kernel,
        "num_blocks": num_blocks,
        "num_repeats": count // num_blocks,
        "norm": "global",
        "mask": mask,
    }
    parts = {
        "encoder": "encoder",
        "decoder": "decoder",
        "norm": "mask_generator.input_norm",
        "bottleneck": "mask_generator.input_conv",
        "prelu": "mask_generator.output_prelu",
        "to_masks": "mask_generator.output_conv",
    }
    names = sequential_parts("conv_layers") | {"residual": "res_out", "skip": "skip_out"}
    parts |= block_parts(wanted, theirs, lambda index: f"{body}.{index}", names, where)
    return build(wanted, theirs, parts, where)
