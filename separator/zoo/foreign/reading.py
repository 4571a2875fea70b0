"""Read files of `torch.save` without running anything in them."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from separator.errors import CheckpointError

# The checkpoint of the largest published Conv-TasNet has 51 MB.
MAX_BYTES = 2**30


def read_tensors(path: Path) -> dict[str, Any]:
    """Read a file of `torch.save` that is a dictionary of tensors and plain values.

    Raises:
        CheckpointError: if it is damaged, larger than `MAX_BYTES`, or holds anything that would have to be run.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a model checkpoint")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CheckpointError(f"{path}: {size / 2**20:.0f} MB, too large for a Conv-TasNet; not opened")
        with path.open("rb") as file:
            beginning = file.read(2)
        if beginning not in (b"PK", b"\x80\x02"):  # a zip archive, and torch's format until 1.5
            raise CheckpointError(
                f"{path}: not a separator checkpoint, and not written by torch.save; expected a .safetensors file "
                "from separator, or a model from asteroid, torchaudio or SpeechBrain"
            )
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > size:
                    raise CheckpointError(
                        f"{path}: holds more than its size, although torch.save does not compress; not opened"
                    )
        # asteroid's `infos` contain a torch version. What torch warns about is refused below.
        with torch.serialization.safe_globals([torch.torch_version.TorchVersion]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
        if _bytes(content) > size:
            raise CheckpointError(f"{path}: its tensors are larger than the file; not used")
    except CheckpointError:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        text = str(error)
        if found := re.search(r"(?:unsupported|global:) GLOBAL ([\w.]+)", text):
            raise CheckpointError(
                f"{path}: it asks for {found[1]} to be run, which no model needs; nothing was run. Use weights that "
                "were saved as tensors only"
            ) from error
        # Not torch's own message, which is long and advises to run the file's content.
        raise CheckpointError(
            f"{path}: damaged, or not a dictionary of tensors and plain values; get the file again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a dictionary of a model's weights")
    return content


def _bytes(content: Any) -> int:
    """Size of the tensors in nested dictionaries. A view counts in full, which may be more than what is stored."""
    if isinstance(content, dict):
        return sum(map(_bytes, content.values()))
    return content.numel() * content.element_size() if isinstance(content, torch.Tensor) else 0
