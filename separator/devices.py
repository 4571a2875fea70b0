"""Processors by name, and what they compute by themselves."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from separator.errors import ConfigError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def independent(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Makes a function compute the same whatever autocast and default device its caller has set for torch.

    For the entrances of the library: within them the precision and device of each product are chosen here. The default
    dtype is not reset, since it belongs to all threads of a process: tensors that are made within name theirs.
    """

    @functools.wraps(function)
    def inside(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with contextlib.ExitStack() as stack:
            for kind in ("cpu", "cuda", "mps"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            if torch.get_default_device().type != "cpu":
                stack.enter_context(torch.device("cpu"))
            return function(*args, **kwargs)

    return inside


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
