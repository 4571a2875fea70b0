"""asteroid's ConvTasNet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from separator.errors import CheckpointError, suggestion
from separator.foreign.building import blocks, build, is_state_dict, known, unlike, whole
from separator.models import ConvTasNet

# What asteroid's ConvTasNet takes for what a file does not say.
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
# Its cLN is of each frame by itself; the paper's is its cgLN.
NORMS = {"gLN": "global", "cLN": "channel", "cgLN": "cumulative"}
ACTIVATIONS = {None: "linear", "linear": "linear", "relu": "relu"}
MASKS = {"relu": "relu", "sigmoid": "sigmoid", "softmax": "softmax"}


def convert(content: Mapping[str, Any], where: Any) -> ConvTasNet:
    """Asteroid's `ConvTasNet`, from `{"model_name", "model_args", "state_dict"}`.

    Raises:
        CheckpointError: if it is another model, or has what ours has not; `where` it came from is named.
    """
    name, given, theirs = content["model_name"], content["model_args"], content.get("state_dict", {})
    if name != "ConvTasNet":
        raise CheckpointError(f"{where}: a {name} of asteroid; of its models only ConvTasNet can be used here")
    if not isinstance(given, dict) or "n_src" not in given or not is_state_dict(theirs):
        raise CheckpointError(f"{where}: damaged: expected model_args with n_src, and a state_dict of tensors")
    for key in given:
        if key not in DEFAULTS and key != "n_src":
            raise CheckpointError(
                f"{where}: asteroid's ConvTasNet with an unknown argument {key!r}{suggestion(key, DEFAULTS)}"
            )
    arguments = DEFAULTS | given
    if not isinstance(arguments["causal"], bool):
        raise unlike(where, "causal", arguments["causal"], (False, True))
    causal, norm = arguments["causal"], arguments["norm_type"]
    if causal and norm not in ("cLN", "cgLN"):
        norm = "cLN"  # as asteroid does, with a warning
    known(where, "fb_name", arguments["fb_name"], {"free": "free", "FreeFB": "free"})
    for key in ("in_chan", "out_chan"):  # others than n_filters are for filterbanks of other kinds
        known(where, key, arguments[key], dict.fromkeys((None, arguments["n_filters"]), ""))
    wanted = {
        "num_sources": given["n_src"],
        "sample_rate": whole(arguments["sample_rate"]),
        "num_filters": arguments["n_filters"],
        "filter_length": arguments["kernel_size"],
        "stride": arguments["stride"] or arguments["kernel_size"] // 2,
        "bottleneck_channels": arguments["bn_chan"],
        "skip_channels": arguments["skip_chan"] or 0,
        "hidden_channels": arguments["hid_chan"],
        "kernel_size": arguments["conv_kernel_size"],
        "num_blocks": arguments["n_blocks"],
        "num_repeats": arguments["n_repeats"],
        "norm": known(where, "norm_type", norm, NORMS),
        "mask": known(where, "mask_act", arguments["mask_act"], MASKS),
        "causal": causal,
        "encoder_activation": known(where, "encoder_activation", arguments["encoder_activation"], ACTIVATIONS),
        "framing": "inside",
    }
    infos = content.get("infos")
    if given["n_src"] == 1:
        task = str(infos.get("task", "")) if isinstance(infos, dict) else ""
        wanted["sources"] = ["speech" if "enh" in task else "source1"]
    parts = {
        "encoder": "encoder.filterbank",
        "decoder": "decoder.filterbank",
        "norm": "masker.bottleneck.0",
        "bottleneck": "masker.bottleneck.1",
        "prelu": "masker.mask_net.0",
        "to_masks": "masker.mask_net.1",
    }
    for ours, index in blocks(wanted, theirs, where):
        block = f"masker.TCN.{index}"
        for number, part in enumerate(("expand", "prelu1", "norm1", "temporal", "prelu2", "norm2")):
            parts[f"{ours}.{part}"] = f"{block}.shared_block.{number}" + ".0" * (causal and part == "temporal")
        parts[f"{ours}.residual"], parts[f"{ours}.skip"] = f"{block}.res_conv", f"{block}.skip_conv"
    unused = set()
    if wanted["skip_channels"]:  # nobody reads the last block's residual
        last = wanted["num_blocks"] * wanted["num_repeats"] - 1
        unused = {f"masker.TCN.{last}.res_conv.{name}" for name in ("weight", "bias")}
    return build(wanted, theirs, parts, where, unused)
