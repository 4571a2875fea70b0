"""Checkpoint averaging: write one model whose weights are the mean of several models' weights.

Usage: `python -m separator.average MODEL MODEL [...] FILE.safetensors`

The models must come from the same training, for example from rounds that continue one another. The mean is then often
better than each of them, and it is as fast as one model. A model that is given twice counts twice. If the last model
was grown from another one (see `separator.train.growth`), the parts that only the last one has keep their weights. The
mean of a fine-tuned model and the model that it started from keeps much of what the latter can do. The mean of networks
that were trained independently is useless.
(Izmailov et al. 2018, arXiv:1803.05407; Wortsman et al. 2022, arXiv:2203.05482 and arXiv:2109.01903.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from separator import zoo
from separator.errors import ConfigError, SeparatorError
from separator.models import ConvTasNet
from separator.train.growth import state_from
from separator.zoo import checkpoint


def average(models: Sequence[str | Path]) -> ConvTasNet:
    """Average the weights of several models.

    Args:
        models: two or more models, each anything that `separator.load` takes. A model that is given twice counts twice.

    Returns:
        The network, on the CPU, in float32 and in evaluation mode.

    Raises:
        ConfigError: if there are fewer than two models, if one is unknown, or if their arguments differ.
        CheckpointError: if a model cannot be used.
    """
    return _average(models)[0]


def _average(models: Sequence[str | Path]) -> tuple[ConvTasNet, dict[str, Any]]:
    """Average the weights, and return the network with the training facts of the last model."""
    if len(models) < 2:
        raise ConfigError(f"got {', '.join(map(str, models)) or 'no models'}; give two or more models to average")
    *others, last = models
    net, training = zoo.load_described(last)
    sums = {name: value.double() for name, value in net.state_dict().items()}
    for model in others:
        for name, value in _state_of(model, net, last).items():
            sums[name] += value
    net.load_state_dict({name: (total / len(models)).float() for name, total in sums.items()})
    # Scores are left out: they were measured with the last model alone.
    known = {name: fact for name, fact in training.items() if name not in ("valid_si_snri", "evaluation")}
    return net, known | {"average_of": [str(model) for model in models]}


def _state_of(model: str | Path, net: ConvTasNet, last: str | Path) -> dict[str, Tensor]:
    """Return a model's weights, and those of `net` where it has others because it was grown from the model."""
    other = zoo.load(model)
    differing = [name for name, value in net.arguments.items() if other.arguments[name] != value]
    try:
        if differing == ["sources"]:
            raise ConfigError("the sources have other names")
        return state_from(net, other, str(model))
    except ConfigError as error:
        name = differing[0]
        raise ConfigError(
            f"{model} and {last} are different networks ({name} is {other.arguments[name]!r} and "
            f"{net.arguments[name]!r}); give models from the training of one network"
        ) from error


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.average", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a model's name, checkpoint or training run")
    parser.add_argument("file", type=Path, metavar="FILE.safetensors", help="output file for the averaged model")
    parser.add_argument("-f", "--force", action="store_true", help="replace the output file if it exists")
    options = parser.parse_args()
    try:
        if options.file.suffix != ".safetensors":
            raise ConfigError(
                f"{options.file}: the last argument is the output file; its name must end in .safetensors"
            )
        if options.file.exists() and not options.force:
            raise ConfigError(f"{options.file}: already exists; use -f to replace it, or give another name")
        net, training = _average(options.models)
        checkpoint.save(net, options.file, training)
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(options.file)
    return 0
