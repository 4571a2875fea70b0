"""Cost of a training step: python benchmarks/training.py [--curves PICTURE.png]

Trains the standard configuration (Luo & Mesgarani 2019: 8 kHz, 5 million parameters) with the step of
`separator.train`, and torchaudio's network of the same size in a plain loop (float32, eager, Adam). Both train on the
same batches in the same run, in turns.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

import separator
from separator import objectives
from separator.data import GeneratedData, Mixing, load_batches
from separator.train.trainer_settings import TrainerSettings
from separator.train.training_step import Learner, Objective

RATE = 8000


class Ours:
    """The step of `separator.train`."""

    def __init__(self, precision: str, compiled: bool, accelerator: str) -> None:
        torch.manual_seed(0)
        net = separator.ConvTasNet(sample_rate=RATE)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)
        fabric = Fabric(accelerator=accelerator, devices=1)
        runs = torch.compile(net) if compiled else net
        settings = TrainerSettings(max_steps=1, precision=precision)
        self.learner = Learner(fabric, net, runs, optimizer, Objective("si_snr", num_interchangeable=2), settings)

    def step(self, batch) -> float:
        return self.learner.step([batch], 1e-3).loss


class Theirs:
    """A plain training loop for torchaudio's network."""

    def __init__(self, device: torch.device) -> None:
        from torchaudio.models import ConvTasNet

        torch.manual_seed(0)
        self.device = device
        # The sizes of the best network in the paper, and of our standard configuration.
        self.net = ConvTasNet(num_sources=2, msk_kernel_size=3, msk_num_feats=128, msk_num_hidden_feats=512).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)

    def step(self, batch) -> float:
        mixture, sources = batch.mixture.to(self.device), batch.sources.to(self.device)
        loss = -best_of_two(self.net(mixture[:, None]), sources).mean()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        return loss.item()


def best_of_two(estimate: Tensor, reference: Tensor) -> Tensor:
    orders = [objectives.si_snr(estimate[:, order], reference).mean(-1) for order in ([0, 1], [1, 0])]
    return torch.stack(orders).amax(0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--batch", type=int, default=2, help="mixtures in a batch (default: 2)")
    options.add_argument("--seconds", type=float, default=3.0, help="length of a mixture (default: 3)")
    options.add_argument("--rounds", type=int, default=5, help="number of timed rounds (default: 5)")
    options.add_argument("--steps", type=int, default=3, help="steps in a round (default: 3)")
    options.add_argument("--precision", default="bfloat16", choices=["bfloat16", "float32"], help="default: bfloat16")
    options.add_argument("--eager", action="store_true", help="run our network without torch.compile")
    options.add_argument("--accelerator", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    options.add_argument("--curves", type=Path, help="output file for a plot of both losses, instead of the timing")
    options.add_argument("--curve-steps", type=int, default=500, help="steps for --curves (default: 500)")
    chosen = options.parse_args()
    torch.set_float32_matmul_precision("high")
    ours = Ours(chosen.precision, not chosen.eager, chosen.accelerator)
    theirs = Theirs(ours.learner.fabric.device)
    data = GeneratedData(num_speakers=100, mixing=Mixing(segment_seconds=chosen.seconds))
    steps = chosen.curve_steps if chosen.curves else (chosen.rounds + 1) * chosen.steps
    mixtures = data.training(RATE, ("speaker1", "speaker2"), 0)
    batches = (parts[0] for parts in load_batches(mixtures, chosen.batch, range(steps), min(8, os.cpu_count() or 1)))
    kind = torch.cuda.get_device_name() if theirs.device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{kind}, {chosen.batch} mixtures of {chosen.seconds:g} s, ours in {chosen.precision}")
    if chosen.curves:
        curves(ours, theirs, batches, chosen.curves)
        return
    seconds: dict[str, list[float]] = {"ours": [], "torchaudio": []}
    memory = {}
    for number in range(chosen.rounds + 1):  # the first round compiles and is not timed
        round_batches = [next(batches) for _ in range(chosen.steps)]
        for name, side in (("ours", ours), ("torchaudio", theirs)):
            if theirs.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            for batch in round_batches:
                side.step(batch)
            if number:
                seconds[name].append((time.perf_counter() - started) / chosen.steps)
            if theirs.device.type == "cuda":
                memory[name] = torch.cuda.max_memory_allocated() / 2**30
    median = {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}
    for name, value in median.items():
        used = f", peak memory {memory[name]:.2f} GiB" if memory else ""
        print(f"  {name:12} {1 / value:7.2f} steps per second{used}")
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["torchaudio"], strict=True)]
    spread = f"rounds from {min(ratios):.2f} to {max(ratios):.2f}"
    print(f"  ratio        {median['torchaudio'] / median['ours']:7.2f} ({spread})")


def curves(ours: Ours, theirs: Theirs, batches, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    losses: dict[str, list[float]] = {"separator": [], "torchaudio": []}
    for batch in batches:
        losses["separator"].append(ours.step(batch))
        losses["torchaudio"].append(theirs.step(batch))
    figure, axis = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    for (name, values), colour in zip(losses.items(), ("tab:blue", "tab:orange"), strict=True):
        smooth = [
            sum(values[max(0, end - 25) : end]) / len(values[max(0, end - 25) : end])
            for end in range(1, len(values) + 1)
        ]
        axis.plot(values, color=colour, alpha=0.2, linewidth=0.7)
        axis.plot(smooth, color=colour, label=f"{name}, mean of 25: {smooth[-1]:.2f} dB at the end")
    # The losses of the first steps are far higher than the rest, and similar for both.
    highest = max(value for values in losses.values() for value in values[20:])
    lowest = min(value for values in losses.values() for value in values)
    axis.set_ylim(lowest - 0.5, highest + 0.5)
    axis.set(xlabel="step", ylabel="loss: -SI-SNR (dB)", title="The same batches, different random initial weights")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    last = {name: sum(values[-50:]) / len(values[-50:]) for name, values in losses.items()}
    print(f"  mean loss of the last 50 steps: {', '.join(f'{name} {value:.2f} dB' for name, value in last.items())}")
    print(f"  {path}")


if __name__ == "__main__":
    main()
