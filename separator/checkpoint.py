"""Model files: safetensors with everything in the header that is needed to build the network again.

A checkpoint is data and never names code to import.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from separator import files
from separator.errors import CheckpointError, ConfigError
from separator.models import ConvTasNet

FORMAT = "separator"
FORMAT_VERSION = 1
ARCHITECTURES: dict[str, type[ConvTasNet]] = {"ConvTasNet": ConvTasNet}


def save(net: ConvTasNet, path: str | Path, training: dict[str, Any] | None = None) -> None:
    """Writes `net` to `path`, whole or not at all; an existing file is replaced.

    Args:
        net: a network of this package.
        path: where to; safetensors, whatever the name ends in.
        training: facts about its training to keep with it, anything that JSON can hold.

    Raises:
        CheckpointError: if the file cannot be written.
    """
    facts = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": type(net).__name__,
        "arguments": net.arguments,
        "sample_rate": net.sample_rate,
        "sources": list(net.sources),
        "training": training or {},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    header = {key: json.dumps(value) for key, value in facts.items()}
    _write(Path(path), lambda temporary: save_file(weights, temporary, metadata=header))


def load(path: str | Path) -> ConvTasNet:
    """The network in `path`, on the CPU, in float32 and evaluation mode.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or made by a newer version.
    """
    facts = read_facts(path)
    if facts["architecture"] not in ARCHITECTURES:
        raise CheckpointError(f"{path}: unknown architecture {facts['architecture']!r}; update separator")
    try:
        net = ARCHITECTURES[facts["architecture"]](**facts["arguments"])
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        net.load_state_dict(weights)
    except (ConfigError, TypeError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: its weights do not fit its description ({reason}); get the file again"
        ) from error
    return net.eval()


def read_facts(path: str | Path) -> dict[str, Any]:
    """The header of a checkpoint: format, architecture, arguments, sample_rate, sources, training.

    Raises:
        CheckpointError: as `load`.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(
            f"{path}: {'is a folder' if path.is_dir() else 'no such file'}; expected a model checkpoint"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a separator checkpoint, or a damaged one ({str(error).splitlines()[0]}); "
            "expected a .safetensors file that training wrote; get the file again"
        ) from error
    try:
        facts = {key: json.loads(value) for key, value in header.items()}
    except json.JSONDecodeError:
        facts = {}
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not of separator; expected one that training wrote")
    if facts["format_version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: its format is version {facts['format_version']}, this separator reads up to {FORMAT_VERSION}; "
            "update separator"
        )
    return facts


def save_state(state: dict[str, Any], path: Path) -> None:
    """Everything a training run needs to go on, tensors and plain values; whole or not at all."""
    _write(path, lambda temporary: torch.save(state, temporary))


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote. Raises `CheckpointError` if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: cannot be resumed from ({reason}); remove it to start anew") from error


def _write(path: Path, write: files.Write) -> None:
    try:
        files.write_together({path: write})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: cannot be written ({error}); make room or choose another place") from error
