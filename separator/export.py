"""`python -m separator.export MODEL FILE.onnx`: convert a network to ONNX, for ONNX Runtime and other ONNX readers.

Without `--stream` the network takes whole recordings. Input: `mixture` `[batch, time]` at the model's sample rate.
Output: `stems` `[batch, source, time]`. Any batch size and length are possible.

With `--stream` a causal model takes blocks. The length of a block is a multiple of `stride` in the metadata. That is
the model's stride times the number of frames after which all repeats at a lower frame rate start a new group. The
model's memory goes in as `state_0`, `state_1`, ... and comes out as `next_state_0`, ... At the start all states are
zeros. The output is `delay` samples late: drop its first `delay` samples, and append as many zeros to the input.

The metadata of the file, under "separator", gives the sample rate, the names of the sources, the stride and the
delay.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from separator import zoo
from separator.errors import ConfigError, SeparatorError, reason
from separator.io import atomic
from separator.models import ConvTasNet, State, check_can_stream
from separator.models.polarity import polarity

# Sizes of the example for tracing. The exported network accepts other sizes.
EXAMPLE_BATCH, EXAMPLE_FRAMES = 2, 50


class Step(nn.Module):
    """One block of a stream. Its memory is an input and an output, instead of being stored."""

    def __init__(self, net: ConvTasNet) -> None:
        super().__init__()
        self.net, self._layout = net, State()
        with torch.inference_mode():
            net(torch.zeros(EXAMPLE_BATCH, block_samples(net), dtype=torch.float32), self._layout)

    @property
    def beginning(self) -> tuple[Tensor, ...]:
        """The memory before the first block, all zeros."""
        return tuple(torch.zeros(tensor.shape, dtype=tensor.dtype) for tensor in self._layout.tensors())

    def forward(self, mixture: Tensor, states: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Separate `[batch, time]`, a multiple of the stride, into stems `[batch, source, time]`.

        Returns:
            The stems, then the memory for the next block.
        """
        state = self._layout.copy()
        state.replace(states)
        stems = self.net(mixture, state)
        return (stems, *state.tensors())


class SignCorrected(nn.Module):
    """A network, or a step of one, whose stems have the same sign as in the mixture."""

    def __init__(self, module: nn.Module, signs: Tensor) -> None:
        super().__init__()
        self.module = module
        self.signs: Tensor
        self.register_buffer("signs", signs)

    def forward(self, mixture: Tensor, states: tuple[Tensor, ...] | None = None) -> Any:
        """Run the module and correct the signs of its stems."""
        if states is None:
            return self._correct(self.module(mixture))
        stems, *states_after = self.module(mixture, states)
        return (self._correct(stems), *states_after)

    def _correct(self, stems: Tensor) -> Tensor:
        return stems * self.signs.view(1, -1, *[1] * (stems.ndim - 2))


def export(net: ConvTasNet, path: str | Path, stream: bool = False) -> None:
    """Write a network as ONNX, completely or not at all. The module's docstring describes the inputs and outputs.

    Args:
        net: the network to export.
        path: file to write. An existing file is replaced.
        stream: whether to export one block of a stream instead of whole recordings. Default: False.

    Raises:
        ConfigError: if onnx or onnxscript are missing, the network cannot be exported, or the file cannot be written.
        StreamError: if `stream` is set and the network is not causal.
    """
    if stream:
        check_can_stream(net)
    net = net.cpu().eval().requires_grad_(False)
    program = _traced(net, stream)
    facts = {
        "sample_rate": net.sample_rate,
        "sources": list(net.sources),
        "stride": block_samples(net) if stream else net.encoder.stride,
        "delay": net.decoder.delay if stream else 0,
    }
    program.model.metadata_props["separator"] = json.dumps(facts)
    try:
        atomic.write_together({Path(path): lambda to: program.save(str(to), external_data=False)})
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({reason(error)}); choose another place") from error


def block_samples(net: ConvTasNet) -> int:
    """Smallest block of a stream in samples.

    Longer blocks are multiples of it. So no repeat at a lower frame rate has to wait for frames.
    """
    return net.encoder.stride * math.lcm(*net.stack.config.rates)


def _traced(net: ConvTasNet, stream: bool) -> Any:
    try:
        import onnx  # noqa: F401
        from onnxscript import optimizer
    except ImportError as error:
        raise ConfigError(
            f"export needs the package {error.name}, which is not installed; run: pip install 'separator[export]'"
        ) from error
    example = _example(net, stream)
    with _without_warnings():
        program = torch.onnx.export(
            example.module,
            tuple(example.arguments),
            input_names=example.inputs,
            output_names=example.outputs,
            dynamic_shapes=tuple(example.shapes),
            dynamo=True,
            verbose=False,
            # onnxscript's optimizer treats an addend of 1e-8 as 0 and so removes a norm's `eps`.
            optimize=False,
        )
    assert program is not None
    model = program.model
    optimizer.inline(model)
    optimizer.fold_constants(model)
    optimizer.remove_unused_nodes(model)
    return program


@dataclass
class Example:
    """Arguments for tracing: a module, its inputs, their names and those of the outputs, and which sizes may vary."""

    module: nn.Module
    arguments: list[Any]
    shapes: list[Any]
    inputs: list[str]
    outputs: list[str]


def _example(net: ConvTasNet, stream: bool) -> Example:
    """Combine a network with a mixture, or a step of a stream with a block and the memory before it."""
    from torch.export import Dim

    stride = block_samples(net) if stream else net.encoder.stride
    channels = [] if net.num_channels == 1 else [net.num_channels]
    mixture = torch.zeros(EXAMPLE_BATCH, *channels, EXAMPLE_FRAMES * stride + (0 if stream else 1))
    any_batch: dict[int, Any] = {0: Dim("batch", min=1)}
    time = stride * Dim("frames", min=1) if stream else Dim("time", min=1)
    example = Example(net, [mixture], [any_batch | {mixture.ndim - 1: time}], ["mixture"], ["stems"])
    if stream:
        example.module = step = Step(net)
        states = step.beginning
        example.arguments.append(states)
        # States that count frames have no batch dimension.
        example.shapes.append(tuple(any_batch if state.shape[:1] == (EXAMPLE_BATCH,) else {} for state in states))
        example.inputs += [f"state_{number}" for number in range(len(states))]
        example.outputs += [f"next_state_{number}" for number in range(len(states))]
    signs = polarity(net)
    if (signs < 0).any():
        example.module = SignCorrected(example.module, signs)
    return example


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hide torch's warnings about its own deprecations, and about packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model to export: a name, a checkpoint or a training run")
    parser.add_argument("file", type=Path, help="ONNX file to write")
    parser.add_argument(
        "--stream",
        action="store_true",
        help="export one block of a stream, with the memory as inputs and outputs (default: whole recordings)",
    )
    parser.add_argument("-f", "--force", action="store_true", help="replace an existing file")
    options = parser.parse_args()
    try:
        if options.file.exists() and not options.force:
            raise ConfigError(f"{options.file}: already exists; use -f to replace it, or another name")
        export(zoo.load(options.model), options.file, options.stream)
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
