"""Effect of earlier audio on a causal model: python benchmarks/context.py LIST.csv MODEL [MODEL ...]

Prints the SI-SNRi on the mixtures of a list, alone and after three other mixtures of the list. These are equally loud,
20 dB quieter or 20 dB louder. The earlier audio should have no effect. A norm with unlimited memory keeps its level. A
norm over each single frame cannot.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import separator
from separator import zoo
from separator.data import MixtureSet
from separator.data.lists import mixture_list

BEFORE = 3
LEVELS_DB = (None, -20.0, 0.0, 20.0)


def score(net: separator.ConvTasNet, mixtures: MixtureSet, index: int, level_db: float | None) -> float:
    """SI-SNRi of one mixture in dB, after other mixtures at `level_db` relative to it (None: alone).

    The input is always scaled by -20 dB.
    """
    item = mixtures[index]
    heard = item.mixture
    if level_db is not None:
        others = [mixtures[(index + number) % len(mixtures)].mixture for number in range(1, BEFORE + 1)]
        heard = torch.cat([10 ** (level_db / 20) * torch.cat(others), heard])
    heard = 0.1 * heard
    estimate = net(heard[None])[..., -item.mixture.shape[-1] :]
    return float(separator.si_snr_improvement(estimate, item.sources[None], item.mixture[None]))


@torch.inference_mode()
def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("list", help="list of mixtures, see python -m separator.evaluate")
    options.add_argument("models", nargs="+", help="causal models")
    options.add_argument("--count", type=int, help="number of mixtures to use, from the first (default: all)")
    chosen = options.parse_args()
    print("| model | alone | after others, 20 dB quieter | equally loud | 20 dB louder |\n" + "| --- " * 5 + "|")
    for model in chosen.models:
        net = zoo.load(model)
        mixtures = MixtureSet(mixture_list(Path(chosen.list), net.sources), net.sample_rate)
        if len(mixtures) <= BEFORE:
            options.error(f"{chosen.list}: has {len(mixtures)} mixtures; expected more than {BEFORE}")
        count = min(chosen.count or len(mixtures), len(mixtures))
        means = [sum(score(net, mixtures, index, level) for index in range(count)) / count for level in LEVELS_DB]
        print(f"| {model} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |", flush=True)


if __name__ == "__main__":
    main()
