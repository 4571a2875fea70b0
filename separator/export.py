"""`python -m separator.export MODEL FILE.onnx`: a network for ONNX Runtime and whatever else reads ONNX.

Whole recordings: input `mixture` `[batch, time]` at the model's rate, output `stems` `[batch, source, time]`, of any
batch and length.

With `--stream` a causal model in blocks of whole strides, or of as many strides as all repeats at a lower frame rate
begin a new group after (`stride` in the metadata): what it must remember goes in and comes out, as `state_0`,
`state_1`, ... and `next_state_0`, ... All are zeros at the beginning. The output is `delay` samples late: the first so
many are to be dropped, and zeros to be given at the end. Rate, names of the sources, stride and delay are in the file's
metadata, under "separator".
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

# Sizes of the example that is traced; any others go through it later.
EXAMPLE_BATCH, EXAMPLE_FRAMES = 2, 50


class Step(nn.Module):
    """One block of a stream: its memory is not kept but taken and given."""

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
        """`[batch, time]`, time a multiple of the stride -> stems `[batch, source, time]`, and the next memory."""
        state = self._layout.copy()
        state.replace(states)
        stems = self.net(mixture, state)
        return (stems, *state.tensors())


class Turned(nn.Module):
    """A network, or a step of one, whose stems get the sign that they have in the mixture."""

    def __init__(self, module: nn.Module, signs: Tensor) -> None:
        super().__init__()
        self.module = module
        self.signs: Tensor
        self.register_buffer("signs", signs)

    def forward(self, mixture: Tensor, states: tuple[Tensor, ...] | None = None) -> Any:
        """As the module's own."""
        if states is None:
            return self._turn(self.module(mixture))
        stems, *states_after = self.module(mixture, states)
        return (self._turn(stems), *states_after)

    def _turn(self, stems: Tensor) -> Tensor:
        return stems * self.signs.view(1, -1, *[1] * (stems.ndim - 2))


def export(net: ConvTasNet, path: str | Path, stream: bool = False) -> None:
    """Writes a network as ONNX, whole or not at all; see this module's beginning for its inputs and outputs.

    Raises:
        ConfigError: if onnx or onnxscript are missing, the network cannot be exported, or the file not be written.
        StreamError: if `stream` is wanted of a network that is not causal.
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
    """Samples of which a stream's blocks are multiples: after so many, repeats at a lower frame rate wait for none."""
    return net.encoder.stride * math.lcm(*net.stack.config.rates)


def _traced(net: ConvTasNet, stream: bool) -> Any:
    try:
        import onnx  # noqa: F401
        from onnxscript import optimizer
    except ImportError as error:
        raise ConfigError(
            f"export needs the package {error.name}; install what it needs with: pip install 'separator[export]'"
        ) from error
    example = _example(net, stream)
    with _quietly():
        program = torch.onnx.export(
            example.module,
            tuple(example.arguments),
            input_names=example.inputs,
            output_names=example.outputs,
            dynamic_shapes=tuple(example.shapes),
            dynamo=True,
            verbose=False,
            # onnxscript's optimizer takes what is added for 0 where it is as small as 1e-8: a norm's `eps` is gone.
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
    """What is traced: a module, arguments of it, their names and those of the outputs, and which sizes may differ."""

    module: nn.Module
    arguments: list[Any]
    shapes: list[Any]
    inputs: list[str]
    outputs: list[str]


def _example(net: ConvTasNet, stream: bool) -> Example:
    """A network with a mixture, or a step of a stream with a block and the memory before it."""
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
        # What counts frames is alike for all of a batch.
        example.shapes.append(tuple(any_batch if state.shape[:1] == (EXAMPLE_BATCH,) else {} for state in states))
        example.inputs += [f"state_{number}" for number in range(len(states))]
        example.outputs += [f"next_state_{number}" for number in range(len(states))]
    turned = polarity(net)
    if (turned < 0).any():
        example.module = Turned(example.module, turned)
    return example


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what torch says about its own deprecations and about packages that nobody needs here."""
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
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="a model's name, checkpoint or training run")
    parser.add_argument("file", type=Path, help="the ONNX file to write")
    parser.add_argument("--stream", action="store_true", help="in blocks, with its memory as inputs and outputs")
    parser.add_argument("-f", "--force", action="store_true", help="replace a file that is already there")
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
