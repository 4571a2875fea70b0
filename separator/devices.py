"""Processors by name, and what they compute by themselves."""

from __future__ import annotations

import torch

from separator.errors import ConfigError


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one. Raises `ConfigError` if it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch built without CUDA
        raise ConfigError(
            f"device {name!r} cannot be used here; expected auto, cpu, or cuda, cuda:1, mps where there is one"
        ) from error
    return device


def computes_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are computed by the processor itself: emulated they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return False
