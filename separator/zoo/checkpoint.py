"""Model files: safetensors with a header that holds everything needed to build the network again.

A checkpoint is only data. It never names code to import.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from separator.errors import CheckpointError, ConfigError, check_whole, first_line
from separator.io import atomic
from separator.models import ConvTasNet

FORMAT = "separator"
FORMAT_VERSION = 1
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
ARCHITECTURES = ("ConvTasNet",)
# Limits for what a file may claim: far above any real model, and low enough to be tried.
MAX_CLAIMS = {"sample_rate": 1_000_000, "num_sources": 1000}


def save(
    net: ConvTasNet,
    path: str | Path,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Save `net` to `path`. The file is written completely or not at all. An existing file is replaced.

    Args:
        net: a network of this package.
        path: file to write. The format is safetensors, whatever the suffix.
        training: facts about the training to store in the file, any JSON values.
        dtype: dtype of the stored weights. Default: float32.

    Raises:
        CheckpointError: if the file cannot be written.

    Example:
        >>> import tempfile
        >>> import separator
        >>> net = separator.ConvTasNet(num_filters=16, num_blocks=2, num_repeats=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     separator.save(net, f"{folder}/net.safetensors")
        ...     loaded = separator.load(f"{folder}/net.safetensors")
        >>> bool((loaded.encoder.weight == net.encoder.weight).all())
        True
    """
    weights = {name: value.detach().to("cpu", dtype).contiguous() for name, value in net.state_dict().items()}
    for name, value in weights.items():
        if not value.isfinite().all() and net.state_dict()[name].isfinite().all():
            raise CheckpointError(f"{path}: {name} has values too large for {dtype}; store it as float32")
    header = {key: json.dumps(value) for key, value in describe(net, training or {}).items()}
    _write(Path(path), lambda temporary: save_file(weights, temporary, metadata=header))


def describe(net: ConvTasNet, training: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a network's checkpoint header."""
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "architecture": type(net).__name__,
        "arguments": net.arguments,
        "sample_rate": net.sample_rate,
        "sources": list(net.sources),
        "training": training,
    }


def load(path: str | Path) -> ConvTasNet:
    """Load the network in `path`, on the CPU, in float32 and evaluation mode.

    Raises:
        CheckpointError: if the file is missing, damaged, of another kind, or made by a newer version.
    """
    facts = read_facts(path)
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{path}: damaged ({error}); get the file again") from error
    net = fill(blueprint(facts["arguments"], len(weights), path), weights, path)
    if (net.sample_rate, list(net.sources)) != (facts["sample_rate"], facts["sources"]):
        raise CheckpointError(f"{path}: its header contradicts itself on sample_rate or sources; get the file again")
    return net


def blueprint(arguments: dict[str, Any], num_weights: int, where: Any) -> ConvTasNet:
    """Build a network without weights, so that no memory is reserved for the sizes that a file claims.

    Raises:
        CheckpointError: if no network has these arguments, or if it needs more weights than the file has.
    """
    try:
        count_blocks(arguments, num_weights)
        for name, most in MAX_CLAIMS.items():
            if isinstance(arguments.get(name), int) and arguments[name] > most:
                raise ConfigError(f"{name}={str(arguments[name])[:20]} is more than {most}")
        with torch.device("meta"):
            return ConvTasNet(**arguments)
    except (ConfigError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{where}: no network can be built from its description ({first_line(error)})") from error


def count_blocks(arguments: dict[str, Any], num_weights: int) -> int:
    """Count the blocks of a network before it is built. Raise `ConfigError` if a file has fewer weights than that."""
    depths: Any = arguments.get("num_blocks")
    check_whole("num_repeats", arguments.get("num_repeats"))
    if isinstance(depths, list):
        for depth in depths:
            check_whole("each of num_blocks", depth)
        blocks = sum(depths)
    else:
        check_whole("num_blocks", depths)
        blocks = depths * arguments["num_repeats"]
    if blocks > num_weights:
        raise ConfigError(f"{blocks} blocks, but {num_weights} weights")
    return blocks


def fill(net: ConvTasNet, weights: dict[str, torch.Tensor], where: Any) -> ConvTasNet:
    """Give a `blueprint` its weights, in float32, and set evaluation mode. The weights must match exactly.

    Raises:
        CheckpointError: if a name or a shape differs, or a value is not finite.
    """
    shapes = {name: list(value.shape) for name, value in net.state_dict().items()}
    for name in sorted(set(shapes) ^ set(weights)):
        problem = "is missing" if name in shapes else "is unknown"
        raise CheckpointError(
            f"{where}: its weights do not match its description ({name} {problem}); get the file again"
        )
    for name, value in weights.items():
        if list(value.shape) != shapes[name]:
            raise CheckpointError(
                f"{where}: its weights do not match its description ({name} has shape {list(value.shape)}, expected "
                f"{shapes[name]}); get the file again"
            )
        check_storage(name, value, where)
    kept = {name: value.float().contiguous() for name, value in weights.items()}
    for name, value in kept.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{where}: {name} has values that are not finite in float32; get the file again")
    net.load_state_dict(kept, assign=True)
    return net.eval()


def check_storage(name: str, value: torch.Tensor, where: Any) -> None:
    """Raise `CheckpointError` unless a weight is a plain array of real numbers."""
    if value.dtype not in DTYPES or value.layout != torch.strided or value.device.type != "cpu" or value.is_nested:
        raise CheckpointError(
            f"{where}: {name} is stored as {value.dtype}, {value.layout}; expected real numbers of 16 to 64 bits"
        )


def fingerprint(net: ConvTasNet) -> str:
    """Hash a network's weights to recognize them later: 16 hexadecimal digits."""
    found = hashlib.sha256()
    for name, value in sorted(net.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def read_facts(path: str | Path) -> dict[str, Any]:
    """Read the header of a checkpoint: format, architecture, arguments, sample_rate, sources, training.

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
            f"{path}: not a separator checkpoint, or a damaged one ({first_line(error)}); "
            "expected a .safetensors file that training wrote; get the file again"
        ) from error
    try:
        facts = {key: json.loads(value) for key, value in header.items()}
    except (ValueError, RecursionError):
        facts = {}
    if facts.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not from separator; expected one that training wrote")
    check_facts(facts, path)
    return facts


def check_facts(facts: dict[str, Any], where: Any) -> None:
    """Raise `CheckpointError` unless this version supports what a header or a `config.json` describes."""
    version = facts.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or not 0 < version <= FORMAT_VERSION:
        raise CheckpointError(f"{where}: format version {version}, expected at most {FORMAT_VERSION}; update separator")
    if facts.get("architecture") not in ARCHITECTURES:
        raise CheckpointError(f"{where}: unknown architecture {facts.get('architecture')!r}; update separator")
    for key, kind in (("arguments", dict), ("sample_rate", int), ("sources", list), ("training", dict)):
        if not isinstance(facts.get(key), kind):
            raise CheckpointError(f"{where}: damaged: {key} is {facts.get(key)!r}; get the file again")


def is_safetensors(path: Path) -> bool:
    """Tell whether a file starts like safetensors: the length of the header, then the header."""
    try:
        with path.open("rb") as file:
            return file.read(9)[8:] == b"{"
    except OSError:
        return False


def save_state(state: dict[str, Any], path: Path) -> None:
    """Save the state of a training run, tensors and plain values, completely or not at all."""
    _write(path, lambda temporary: torch.save(state, temporary))


def load_state(path: Path) -> dict[str, Any]:
    """Load what `save_state` wrote. Raise `CheckpointError` if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise CheckpointError(
            f"{path}: cannot resume training from it ({first_line(error)}); remove it to start over"
        ) from error


def _write(path: Path, write: atomic.Write) -> None:
    try:
        atomic.write_together({path: write})
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: cannot be written ({first_line(error)}); free disk space or choose another place"
        ) from error
