"""Convert SpeechBrain's Conv-TasNet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from separator.errors import CheckpointError
from separator.models import ConvTasNet
from separator.zoo.foreign.building import as_whole, block_parts, build, is_state_dict, translate, unsupported
from separator.zoo.foreign.reading import read_tensors

PARTS = ("encoder", "masknet", "decoder")
NORMS = {"gLN": "global", "cLN": "channel"}
BLOCK = "masknet.temporal_conv_net.temporalblock_"
# Parts of a block: ours -> theirs.
NAMES = {
    "expand": "conv.conv",
    "prelu1": "act",
    "norm1": "norm",
    "temporal": "DSconv.conv_0.conv",
    "prelu2": "DSconv.act",
    "norm2": "DSconv.act_0",
    "residual": "DSconv.conv_1.conv",
}


def load(folder: Path) -> ConvTasNet:
    """Load a network of SpeechBrain's recipes: `hyperparams.yaml` next to encoder.ckpt, masknet.ckpt and decoder.ckpt.

    Raises:
        CheckpointError: if it is damaged, or has a feature that ours does not have. The error names the feature.
    """
    settings = read_hyperparams(folder / "hyperparams.yaml")
    parts: dict[str, Any] = {}
    for part in PARTS:
        if not (folder / f"{part}.ckpt").is_file():
            raise CheckpointError(f"{folder}: hyperparams.yaml without {part}.ckpt; a SpeechBrain model needs both")
        parts |= {f"{part}.{name}": value for name, value in read_tensors(folder / f"{part}.ckpt").items()}
    return convert(parts, settings, folder)


def convert(theirs: Mapping[str, Tensor], settings: Mapping[str, Any], where: Any) -> ConvTasNet:
    """Convert SpeechBrain's Conv-TasNet from the state dicts of its parts, and the settings from `read_hyperparams`.

    Names start with "encoder.", "masknet." and "decoder.". Encoder and decoder are those of its recipes
    (`dual_path.Encoder` and `Decoder`), or those in the module of the MaskNet (`conv_tasnet.Encoder` and `Decoder`).

    Raises:
        CheckpointError: as `load`.
    """
    if not is_state_dict(theirs):
        raise CheckpointError(f"{where}: damaged: expected state dicts of tensors")
    own = "encoder.conv1d_U.conv.weight" in theirs
    parts = {
        "encoder": "encoder.conv1d_U.conv" if own else "encoder.conv1d",
        "decoder": "decoder.basis_signals.w" if own else "decoder",
        "norm": "masknet.layer_norm",
        "bottleneck": "masknet.bottleneck_conv1x1.conv",
        "to_masks": "masknet.mask_conv1x1.conv",
    }
    wanted = _arguments(theirs, settings, parts, where) | {"framing": "mirrored" if own else "inside"}
    per_repeat = wanted["num_blocks"]
    parts |= block_parts(
        wanted, theirs, lambda index: f"{BLOCK}{index // per_repeat}_{index % per_repeat}.layers", NAMES, where
    )
    basis = f"{parts['decoder']}.weight"
    if own and basis in theirs:
        theirs = {**theirs, basis: theirs[basis].T}
    # It has no biases, and no PReLU before the masks. A PReLU with a slope of 1 does nothing.
    return build(wanted, theirs, parts, where, missing={"bias": 0.0, "prelu.weight": 1.0})


def _arguments(
    theirs: Mapping[str, Tensor], settings: Mapping[str, Any], parts: Mapping[str, str], where: Any
) -> dict[str, Any]:
    """Make the arguments of our network. The shapes of the weights give what the settings do not contain."""
    if settings.get("causal", False):
        raise CheckpointError(
            f"{where}: SpeechBrain's causal=True, whose convolutions are late, is not supported; use a non-causal model"
        )
    if settings.get("mask_nonlinear", "relu") != "relu":
        raise unsupported(where, "mask_nonlinear", settings["mask_nonlinear"], ("relu",))  # its softmax is over filters
    try:
        filters, _, length = theirs[f"{parts['encoder']}.weight"].shape
        hidden, bottleneck, _ = theirs[f"{BLOCK}0_0.layers.{NAMES['expand']}.weight"].shape
        outputs = theirs[f"{parts['to_masks']}.weight"].shape[0]
        kernel = theirs[f"{BLOCK}0_0.layers.{NAMES['temporal']}.weight"].shape[-1]
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(f"{where}: not the parameters of SpeechBrain's Conv-TasNet ({error})") from error
    if not filters or length < 4:
        raise CheckpointError(
            f"{where}: {filters} filters of {length} samples; expected at least 1 filter, of at least 4 samples"
        )
    places = [
        tuple(map(int, found)) for key in theirs for found in re.findall(rf"^{BLOCK}(\d{{1,4}})_(\d{{1,4}})\.", key)
    ]
    return {
        "num_sources": outputs // filters,
        "sample_rate": as_whole(settings.get("sample_rate")),
        "num_filters": filters,
        "filter_length": length,
        "stride": length // 2,
        "bottleneck_channels": bottleneck,
        "skip_channels": 0,
        "hidden_channels": hidden,
        "kernel_size": kernel,
        "num_blocks": 1 + max(block for _, block in places),
        "num_repeats": 1 + max(repeat for repeat, _ in places),
        "norm": translate(where, "norm_type", settings.get("norm_type", "gLN"), NORMS),
        "mask": "relu",
        "temporal_options": {"padding": "reflect"},
        "encoder_activation": "relu",
        "input_norm": "channel",
    }


def read_hyperparams(path: Path) -> dict[str, Any]:
    """Read a Conv-TasNet's settings from SpeechBrain's `hyperparams.yaml`: the MaskNet's arguments, and sample_rate.

    Tags, which name Python classes, are read as text.

    Raises:
        CheckpointError: if it is not YAML, or belongs to another network.
    """
    try:
        content = yaml.load(path.read_text(), Loader=_TagsAsText)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from error
    content = content if isinstance(content, dict) else {}
    tagged = {str(item["!"]): item for item in content.values() if isinstance(item, dict) and "!" in item}
    found = [item for tag, item in tagged.items() if tag.endswith("conv_tasnet.MaskNet")]
    if not found:
        others = ", ".join(repr(tag.rpartition(":")[2])[1:-1] for tag in list(tagged)[:9]) or "none"
        raise CheckpointError(
            f"{path}: no lobes.models.conv_tasnet.MaskNet among its networks ({others}); of SpeechBrain's models only "
            "Conv-TasNet is supported"
        )

    def resolved(value: Any) -> Any:
        if isinstance(value, str) and (reference := re.fullmatch(r"<(\w+)>", value)):
            return content.get(reference[1])
        return value

    settings = {key: resolved(value) for key, value in found[0].items() if key != "!"}
    if "sample_rate" not in content:
        raise CheckpointError(f"{path}: no sample_rate in it; add the rate of the model's training data in Hz")
    return settings | {"sample_rate": resolved(content["sample_rate"])}


class _TagsAsText(yaml.SafeLoader):
    """YAML loader that turns `!new:package.Class {...}` into the mapping, with its tag under "!"."""


def _untagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True) | {"!": tag}
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_TagsAsText.add_multi_constructor("!", _untagged)
