"""What `torch.save` wrote, read without running anything."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from separator.errors import CheckpointError

# A checkpoint of the largest published Conv-TasNet has 51 MB.
MAX_BYTES = 2**30


def read_tensors(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote, if it is a dictionary of tensors and plain values.

    Raises:
        CheckpointError: if it is damaged, larger than it may be, or holds anything that would have to be run.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a model checkpoint")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CheckpointError(f"{path}: {size / 2**20:.0f} MB, more than a Conv-TasNet can have; not opened")
        with path.open("rb") as file:
            beginning = file.read(2)
        if beginning not in (b"PK", b"\x80\x02"):  # of an archive, and of what torch wrote until 1.5
            raise CheckpointError(
                f"{path}: not a separator checkpoint, and nothing that torch.save wrote; expected a .safetensors file "
                "of separator, or a model of asteroid, torchaudio or SpeechBrain"
            )
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > size:
                    raise CheckpointError(f"{path}: holds more than its size; torch.save does not compress: not opened")
        # A version of torch is among asteroid's `infos`; what torch warns of is refused below.
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
                f"{path}: it wants {found[1]} to be run, which no model needs; nothing of it was. Use weights that "
                "were saved as tensors alone"
            ) from error
        # Not torch's own words, which are many, and advise to run what is in it.
        raise CheckpointError(
            f"{path}: damaged, or no dictionary of tensors and plain values; get the file again"
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}; expected a dictionary of a model's weights")
    return content


def _bytes(content: Any) -> int:
    """Of the tensors in dictionaries. Those of a view may be many more than those that are stored."""
    if isinstance(content, dict):
        return sum(map(_bytes, content.values()))
    return content.numel() * content.element_size() if isinstance(content, torch.Tensor) else 0
