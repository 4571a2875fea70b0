"""Devices by name, what they support in hardware, and independence of the caller's torch settings."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from separator.errors import ConfigError, first_line

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
# Set in a forked process whose parent had called `survive_forks`.
_FORKED = threading.Event()


def independent(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make a function independent of the caller's autocast and default device.

    This decorator is for the entry points of the library. Inside them, the library itself chooses the precision and
    the device of each matrix multiplication. The default dtype is not reset, because all threads of the process share
    it. Tensors that are created inside such a function therefore name their dtype.
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


@functools.cache
def survive_forks() -> None:
    """Let processes that are forked from this one compute, with one thread each. Takes effect once per process.

    A forked process does not inherit the threads that OpenMP started, and would wait for them forever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def is_forked() -> bool:
    """Return whether this process was forked from one that had called `survive_forks`."""
    return _FORKED.is_set()


def _after_fork() -> None:
    torch.set_num_threads(1)
    _FORKED.set()


def find_device(name: str) -> torch.device:
    """Return the device of a name.

    Args:
        name: a torch device such as "cpu", "cuda", "cuda:1" or "mps". "auto" is a GPU if there is one, else the CPU.

    Raises:
        ConfigError: if the device cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # fails for "meta", which holds no data
    except (RuntimeError, AssertionError) as error:  # AssertionError: torch was built without CUDA
        raise ConfigError(f"device {name!r} cannot be used: {_why_not(name, error)}") from error
    return device


def _why_not(name: str, error: Exception) -> str:
    """Say why torch cannot use a device, and what to do."""
    kind = name.partition(":")[0]
    if kind == "cuda":
        if not torch.backends.cuda.is_built():
            return f"torch {torch.__version__} has no CUDA; install torch with CUDA (see pytorch.org), or use cpu"
        count = torch.cuda.device_count()
        if not count:
            return "torch has CUDA, but sees no GPU; check that nvidia-smi lists one, or use cpu"
        if name not in ("cuda", *(f"cuda:{number}" for number in range(count))):
            return f"torch sees {count} GPU{'s' * (count > 1)}, cuda:0{f' to cuda:{count - 1}' * (count > 1)}"
        return f"{first_line(error)}; use another GPU, or cpu"
    if kind == "mps":
        if not torch.backends.mps.is_built():
            return f"torch {torch.__version__} has no MPS, which needs macOS on Apple silicon; use cpu"
        return "torch has MPS, but this machine has no suitable GPU; use cpu"
    return f"{first_line(error)}; expected auto, cpu, cuda, cuda:1 or mps"


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the device multiplies bfloat16 matrices in hardware. Emulation is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return False
