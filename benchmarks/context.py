"""What came before must not matter: python benchmarks/context.py LIST.csv MODEL [MODEL ...]

SI-SNRi of causal models on the mixtures of a list, alone and behind three other mixtures of the list that are as
loud, or 20 dB quieter, or 20 dB louder. A norm that remembers everything carries their level on; one that looks at
each frame by itself cannot.
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
    """SI-SNRi of one mixture, always 20 dB below full scale, behind others at `level_db` to it if that is given."""
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
    options.add_argument("list", help="as for python -m separator.evaluate")
    options.add_argument("models", nargs="+")
    options.add_argument("--count", type=int, default=None, help="only the first so many mixtures")
    chosen = options.parse_args()
    print("| model | alone | behind others 20 dB quieter | as loud | 20 dB louder |\n" + "| --- " * 5 + "|")
    for model in chosen.models:
        net = zoo.load(model)
        mixtures = MixtureSet(mixture_list(Path(chosen.list), net.sources), net.sample_rate)
        if len(mixtures) <= BEFORE:
            options.error(f"{chosen.list}: {len(mixtures)} mixtures are too few; expected more than {BEFORE}")
        count = min(chosen.count or len(mixtures), len(mixtures))
        means = [sum(score(net, mixtures, index, level) for index in range(count)) / count for level in LEVELS_DB]
        print(f"| {model} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |", flush=True)


if __name__ == "__main__":
    main()
