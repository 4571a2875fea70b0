"""Processors by name, and what they compute by themselves."""

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
# Set in a process that was forked from one that had computed.
_FORKED = threading.Event()


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


@functools.cache
def survive_forks() -> None:
    """Lets processes that are forked from this one compute, with one thread; once for all.

    Of the threads that OpenMP started, a forked process has none, and would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_after_fork)


def is_forked() -> bool:
    """Whether this process was forked from one that had computed."""
    return _FORKED.is_set()


def _after_fork() -> None:
    torch.set_num_threads(1)
    _FORKED.set()


def find_device(name: str) -> torch.device:
    """The device of a name; "auto" is a GPU if there is one. Raises `ConfigError` if it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # "meta" gives nothing back
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch built without CUDA
        raise ConfigError(f"device {name!r} cannot be used: {_why_not(name, error)}") from error
    return device


def _why_not(name: str, error: Exception) -> str:
    """Why torch does not take a device, and what to do."""
    kind = name.partition(":")[0]
    if kind == "cuda":
        if not torch.backends.cuda.is_built():
            return f"torch {torch.__version__} is built without CUDA; install one that is (see pytorch.org), or use cpu"
        count = torch.cuda.device_count()
        if not count:
            return "torch is built with CUDA, but sees no GPU; see whether nvidia-smi lists one, or use cpu"
        if name not in ("cuda", *(f"cuda:{number}" for number in range(count))):
            return f"torch sees {count} GPU{'s' * (count > 1)}, cuda:0{f' to cuda:{count - 1}' * (count > 1)}"
        return f"{first_line(error)}; use another GPU, or cpu"
    if kind == "mps":
        if not torch.backends.mps.is_built():
            return f"torch {torch.__version__} is built without MPS, which is for macOS on Apple's processors; use cpu"
        return "torch is built with MPS, but this machine has no GPU for it; use cpu"
    return f"{first_line(error)}; expected auto, cpu, cuda, cuda:1 or mps"


def computes_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are computed by the processor itself: emulated they are slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return False
