"""`python -m separator.average MODEL MODEL [...] FILE.safetensors`: one model, whose weights are the mean of others'.

Of rounds of training that went on from one another, the mean is often better than each of them, and costs nothing when
it is used. Networks that were trained apart have nothing in common that a mean would keep.
(Izmailov et al. 2018, arXiv:1803.05407; Wortsman et al. 2022, arXiv:2203.05482.)
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from separator import zoo
from separator.errors import ConfigError, SeparatorError
from separator.models import ConvTasNet
from separator.zoo import checkpoint


def average(models: Sequence[str | Path]) -> ConvTasNet:
    """A network with the mean of the weights of several, on the CPU, in float32 and evaluation mode.

    Args:
        models: two or more, whatever `separator.load` takes; one that is named twice counts twice.

    Raises:
        ConfigError: if they are fewer or one is unknown, or they are not networks of the same arguments.
        CheckpointError: for a model that cannot be used.
    """
    return _average(models)[0]


def _average(models: Sequence[str | Path]) -> tuple[ConvTasNet, dict[str, Any]]:
    """And what is known of the training of the last of them."""
    if len(models) < 2:
        raise ConfigError(f"a mean is of two or more models, got {', '.join(map(str, models)) or 'none'}")
    first, *others = models
    net = zoo.load(first)
    sums = {name: value.double() for name, value in net.state_dict().items()}
    training: dict[str, Any] = {}
    for model in others:
        other, training = zoo.load_described(model)
        for name, value in net.arguments.items():
            if other.arguments[name] != value:
                raise ConfigError(
                    f"{first} and {model} are different networks ({name} is {value!r} and {other.arguments[name]!r}); "
                    "the mean is of rounds of training of one"
                )
        for name, value in other.state_dict().items():
            sums[name] += value
    net.load_state_dict({name: (total / len(models)).float() for name, total in sums.items()})
    # What was measured was measured of the last alone.
    known = {name: fact for name, fact in training.items() if name not in ("valid_si_snri", "evaluation")}
    return net, known | {"average_of": [str(model) for model in models]}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.average", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="a model's name, checkpoint or training run")
    parser.add_argument("file", type=Path, metavar="FILE.safetensors", help="where the mean is written")
    parser.add_argument("-f", "--force", action="store_true", help="replace a file that is already there")
    options = parser.parse_args()
    try:
        if options.file.suffix != ".safetensors":
            raise ConfigError(f"{options.file}: the last name is where the mean is written; end it in .safetensors")
        if options.file.exists() and not options.force:
            raise ConfigError(f"{options.file}: already exists; use -f to replace it, or another name")
        net, training = _average(options.models)
        checkpoint.save(net, options.file, training)
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(options.file)
    return 0
