"""The functions of cpu_kernels.c. They are compiled on first use, in a fraction of a second, if there is a compiler."""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SOURCE = Path(__file__).with_suffix(".c")
# Not -ffast-math: a library linked with it changes denormal arithmetic for the whole process.
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-fPIC", "-shared", "-w"]
# If this environment variable is 0, nothing is compiled.
SWITCH = "SEPARATOR_NATIVE"
COMPILE_SECONDS = 30


@functools.cache
def library() -> ctypes.CDLL | None:
    """Compile and load the functions. Returns None if this is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    # Torch's own OpenMP, because the threads of a second OpenMP library would compete with torch's.
    openmp = next((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"), None)
    if compiler is None or openmp is None or os.environ.get(SWITCH) == "0":
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "native.so"
            command = [compiler, *FLAGS, str(SOURCE), str(openmp), "-o", str(target)]
            subprocess.run(command, check=True, capture_output=True, timeout=COMPILE_SECONDS)
            loaded = ctypes.CDLL(str(target))
        return loaded if _computes_right(loaded) else None
    except (OSError, subprocess.SubprocessError):
        return None


def moments(values: Tensor) -> tuple[float, float] | None:
    """Sum of the values, and of their squares, of `[frame, channel]` in float32 or bfloat16.

    Returns None if the compiled function cannot be used.
    """
    native = library()
    if native is None or not values.is_contiguous():
        return None
    return _moments(native, values)


def depthwise(
    values: Tensor, kernel: Tensor, bias: Tensor, slope: float, dilation: int
) -> tuple[Tensor, float, float] | None:
    """Convolve `[frame, channel]` along frames with `[tap, channel]`, and apply leaky ReLU.

    The output is shorter than the input by the reach of the kernel in frames.

    Returns:
        The output and its sums as in `moments`, or None if the compiled function cannot be used.
    """
    native = library()
    if native is None or not values.is_contiguous():
        return None
    return _depthwise(native, values, kernel, bias, slope, dilation)


def _moments(native: ctypes.CDLL, values: Tensor) -> tuple[float, float]:
    sums = torch.empty(2, values.shape[0], dtype=torch.float32, device="cpu")
    _function(native, "moments", values)(_pointer(values), *map(ctypes.c_int64, values.shape), _pointer(sums))
    return _total(sums)


def _depthwise(
    native: ctypes.CDLL, values: Tensor, kernel: Tensor, bias: Tensor, slope: float, dilation: int
) -> tuple[Tensor, float, float]:
    frames = values.shape[0] - (len(kernel) - 1) * dilation
    output, sums = values.new_empty(frames, values.shape[1]), torch.empty(2, frames, dtype=torch.float32, device="cpu")
    kernel, bias = kernel.float().contiguous(), bias.float().contiguous()
    sizes = map(ctypes.c_int64, (len(kernel), dilation, *output.shape))
    _function(native, "depthwise", values)(
        *map(_pointer, (values, kernel, bias)), ctypes.c_float(slope), *sizes, _pointer(output), _pointer(sums)
    )
    return output, *_total(sums)


def _function(native: ctypes.CDLL, name: str, values: Tensor) -> Any:
    return getattr(native, f"{name}_{str(values.dtype).removeprefix('torch.')}")


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _total(sums: Tensor) -> tuple[float, float]:
    total, squares = sums.sum(1, dtype=torch.float64).tolist()
    return total, squares


def _computes_right(native: ctypes.CDLL) -> bool:
    """Check the results, because the compiler may be broken or made for another processor."""
    # Explicit, because the caller may have set another default dtype or device, and the C functions read float32.
    plain: Any = {"dtype": torch.float32, "device": "cpu"}
    values = torch.linspace(-1, 1, 40, **plain).view(8, 5)
    kernel = torch.tensor([[1.0], [-2.0], [0.5]], **plain).repeat(1, 5)
    bias = torch.full((5,), 0.1, **plain)
    taps = torch.stack([values[:4], values[2:6], values[4:]])
    expected = torch.nn.functional.leaky_relu((taps * kernel[:, None]).sum(0) + bias, 0.25)
    output, total, squares = _depthwise(native, values, kernel, bias, 0.25, 2)
    found = torch.tensor([total, squares, *_moments(native, output)], **plain)
    wanted = torch.stack([expected.sum(), expected.square().sum()]).repeat(2)
    return torch.allclose(output, expected, atol=1e-5) and torch.allclose(found, wanted, atol=1e-4)
