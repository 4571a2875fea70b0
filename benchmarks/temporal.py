"""Cost of each temporal convolution: python benchmarks/temporal.py runs/*/best.safetensors

Prints a Markdown table of the given checkpoints: validation SI-SNRi, number of parameters, receptive field, time of a
training step (compiled, bfloat16, 8 mixtures of 2 s, as in training), and time to separate 8 s (eager, float32, as in
use). Times are medians, relative to the first checkpoint. The checkpoints are timed in turns, so that other load on
the machine affects all of them equally.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import separator
from separator.zoo import checkpoint


def training_step(net: separator.ConvTasNet) -> Callable[[], object]:
    """Task of one forward and backward pass, as in `separator.train`."""
    mixture, sources = torch.randn(8, 2 * net.sample_rate), torch.randn(8, 2, 2 * net.sample_rate)
    compiled = torch.compile(net.train())

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            estimate = compiled(mixture)
        loss = -separator.pit(separator.si_snr, estimate, sources)[0].mean()
        net.zero_grad()
        loss.backward()

    return run


def separation(net: separator.ConvTasNet) -> Callable[[], object]:
    """Task of separating 8 s."""
    mixture = torch.randn(1, 8 * net.sample_rate)

    def run() -> None:
        with torch.inference_mode():
            net.eval()(mixture)

    return run


def in_turns(tasks: list[Callable[[], object]], rounds: int) -> list[float]:
    """Run the tasks in turns. Return the median time of each in seconds."""
    for task in tasks:
        task()
        task()
    seconds: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, taken in zip(tasks, seconds, strict=True):
            started = time.perf_counter()
            task()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in seconds]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("checkpoints", nargs="+", help="checkpoints; times are relative to the first")
    options.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2)")
    options.add_argument("--rounds", type=int, default=15, help="number of timed runs (default: 15)")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    nets = [separator.load(path) for path in chosen.checkpoints]
    separated = in_turns([separation(net) for net in nets], chosen.rounds)
    trained = in_turns([training_step(net) for net in nets], chosen.rounds)
    print("| temporal | valid SI-SNRi, dB | parameters | receptive field, s | training step | separation |")
    print("| --- " * 6 + "|")
    for path, net, train, separate in zip(chosen.checkpoints, nets, trained, separated, strict=True):
        facts = checkpoint.read_facts(path)["training"]
        name = " ".join([net.arguments["temporal"], *map(str, net.arguments["temporal_options"].values())])
        print(
            f"| {name} | {facts['valid_si_snri']:.2f} | {sum(p.numel() for p in net.parameters()):,} "
            f"| {net.receptive_field.seconds:.2f} | {train / trained[0]:.2f} | {separate / separated[0]:.2f} |"
        )
    print(
        f"\n1.00 is {1e3 * trained[0]:.0f} ms per step and {1e3 * separated[0]:.0f} ms per 8 s, "
        f"{chosen.threads} threads"
    )


if __name__ == "__main__":
    main()
