"""Convert asteroid's ConvTasNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from separator.errors import CheckpointError, suggestion
from separator.models import ConvTasNet
from separator.zoo.foreign.building import (
    as_whole,
    block_parts,
    build,
    is_state_dict,
    sequential_parts,
    translate,
    unsupported,
)

# Defaults of asteroid's ConvTasNet.
DEFAULTS: dict[str, Any] = {
    "n_blocks": 8,
    "n_repeats": 3,
    "bn_chan": 128,
    "hid_chan": 512,
    "skip_chan": 128,
    "conv_kernel_size": 3,
    "norm_type": "gLN",
    "mask_act": "sigmoid",
    "in_chan": None,
    "out_chan": None,
    "causal": False,
    "fb_name": "free",
    "kernel_size": 16,
    "n_filters": 512,
    "stride": 8,
    "encoder_activation": None,
    "sample_rate": 8000,
}
# asteroid's cLN normalizes each frame by itself. The paper's cLN is asteroid's cgLN.
NORMS = {"gLN": "global", "cLN": "channel", "cgLN": "cumulative"}
ACTIVATIONS = {None: "linear", "linear": "linear", "relu": "relu"}
MASKS = {"relu": "relu", "sigmoid": "sigmoid", "softmax": "softmax"}


def convert(content: Mapping[str, Any], where: Any) -> ConvTasNet:
    """Convert asteroid's `ConvTasNet` from `{"model_name", "model_args", "state_dict"}`.

    Raises:
        CheckpointError: if it is another model, or has a feature that ours does not have. The error names `where`.
    """
    name, given, theirs = content["model_name"], content["model_args"], content.get("state_dict", {})
    if name != "ConvTasNet":
        raise CheckpointError(f"{where}: a {name} from asteroid; of its models only ConvTasNet is supported")
    if not isinstance(given, dict) or "n_src" not in given or not is_state_dict(theirs):
        raise CheckpointError(f"{where}: damaged: expected model_args with n_src, and a state_dict of tensors")
    for key in given:
        if key not in DEFAULTS and key != "n_src":
            raise CheckpointError(
                f"{where}: asteroid's ConvTasNet with an unknown argument {key!r}{suggestion(key, DEFAULTS)}"
            )
    wanted = _arguments(DEFAULTS | given, content.get("infos"), where)
    parts = {
        "encoder": "encoder.filterbank",
        "decoder": "decoder.filterbank",
        "norm": "masker.bottleneck.0",
        "bottleneck": "masker.bottleneck.1",
        "prelu": "masker.mask_net.0",
        "to_masks": "masker.mask_net.1",
    }
    names = sequential_parts("shared_block") | {"residual": "res_conv", "skip": "skip_conv"}
    if wanted["causal"]:  # the convolution is followed by a layer that cuts off later frames
        names["temporal"] += ".0"
    parts |= block_parts(wanted, theirs, "masker.TCN.{}".format, names, where)
    unused = set()
    if wanted["skip_channels"]:  # the last block's residual is not used
        last = wanted["num_blocks"] * wanted["num_repeats"] - 1
        unused = {f"masker.TCN.{last}.res_conv.{name}" for name in ("weight", "bias")}
    return build(wanted, theirs, parts, where, unused)


def _arguments(theirs: Mapping[str, Any], infos: Any, where: Any) -> dict[str, Any]:
    """Make the arguments of our network."""
    if not isinstance(theirs["causal"], bool):
        raise unsupported(where, "causal", theirs["causal"], (False, True))
    norm = theirs["norm_type"]
    if theirs["causal"] and norm not in ("cLN", "cgLN"):
        norm = "cLN"  # as asteroid does, with a warning
    translate(where, "fb_name", theirs["fb_name"], {"free": "free", "FreeFB": "free"})
    for key in ("in_chan", "out_chan"):  # other values are for other filterbanks
        translate(where, key, theirs[key], dict.fromkeys((None, theirs["n_filters"]), ""))
    wanted = {
        "num_sources": theirs["n_src"],
        "sample_rate": as_whole(theirs["sample_rate"]),
        "num_filters": theirs["n_filters"],
        "filter_length": theirs["kernel_size"],
        "stride": theirs["stride"] or theirs["kernel_size"] // 2,
        "bottleneck_channels": theirs["bn_chan"],
        "skip_channels": theirs["skip_chan"] or 0,
        "hidden_channels": theirs["hid_chan"],
        "kernel_size": theirs["conv_kernel_size"],
        "num_blocks": theirs["n_blocks"],
        "num_repeats": theirs["n_repeats"],
        "norm": translate(where, "norm_type", norm, NORMS),
        "mask": translate(where, "mask_act", theirs["mask_act"], MASKS),
        "causal": theirs["causal"],
        "encoder_activation": translate(where, "encoder_activation", theirs["encoder_activation"], ACTIVATIONS),
        "framing": "inside",
    }
    if theirs["n_src"] == 1:
        task = str(infos.get("task", "")) if isinstance(infos, dict) else ""
        wanted["sources"] = ["speech" if "enh" in task else "source1"]
    return wanted
