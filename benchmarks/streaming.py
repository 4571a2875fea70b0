"""Cost of a live stream: python benchmarks/streaming.py [--minutes 60]

Streams noise through a causal model in small blocks on one core. For comparison, runs torchaudio's Conv-TasNet of the
same size over the whole receptive field again for every block, as a toolbox without streaming must.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
import torch

import separator


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--model", default="default-causal", help="causal model (default: default-causal)")
    options.add_argument("--minutes", type=float, default=10.0, help="length of the stream (default: 10)")
    options.add_argument("--block", type=float, default=0.01, help="block length in seconds (default: 0.01)")
    options.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    options.add_argument("--peer-blocks", type=int, default=50, help="blocks for torchaudio; 0 for none (default: 50)")
    chosen = options.parse_args()
    torch.set_num_threads(chosen.threads)
    sep = separator.Separator(chosen.model, device="cpu")
    rate = sep.sample_rate
    block = round(chosen.block * rate)
    count = round(chosen.minutes * 60 / chosen.block)
    noise = 0.1 * np.random.default_rng(0).standard_normal((100, block)).astype(np.float32)

    seconds = np.full(count, np.nan)  # allocated before memory is measured
    with sep.stream() as stream:
        for number in range(100):
            stream.push(noise[number % 100])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(count):
            started = time.perf_counter()
            stream.push(noise[number % 100])
            seconds[number] = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        latency = stream.latency
    minute = min(count, round(60 / chosen.block))
    p50, p95, p99 = np.percentile(seconds * 1e3, [50, 95, 99])
    print(f"{chosen.model}, {chosen.minutes:g} min in blocks of {1e3 * chosen.block:g} ms, {chosen.threads} thread(s)")
    print(f"  algorithmic latency   {1e3 * latency:.2f} ms")
    print(f"  real-time factor      {seconds.mean() / chosen.block:.3f}")
    print(f"  a block, ms           median {p50:.2f}, 95% {p95:.2f}, 99% {p99:.2f}, longest {1e3 * seconds.max():.2f}")
    print(f"  last minute / first   {seconds[-minute:].mean() / seconds[:minute].mean():.3f}")
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS reports bytes, other systems KiB
    print(f"  peak memory growth    {(after - before) / unit:.1f} MiB")
    if chosen.peer_blocks:
        ours, theirs = seconds.mean(), rerun(sep, block, chosen.peer_blocks)
        print(f"  torchaudio's ConvTasNet, run again over the receptive field: {theirs / ours:.1f} x the time")


def rerun(sep: separator.Separator, block: int, blocks: int) -> float:
    """Seconds per block for torchaudio's network of the same size, run over the whole receptive field each time."""
    from torchaudio.models import ConvTasNet

    sizes = sep.net.arguments
    peer = ConvTasNet(
        sizes["num_sources"],
        2 * sizes["stride"],
        sizes["num_filters"],
        sizes["kernel_size"],
        sizes["bottleneck_channels"],
        sizes["hidden_channels"],
        sizes["num_blocks"],
        sizes["num_repeats"],
    ).eval()
    window = torch.randn(1, 1, sep.net.receptive_field.samples + block)
    with torch.inference_mode():
        peer(window)
        started = time.perf_counter()
        for _ in range(blocks):
            peer(window)
    return (time.perf_counter() - started) / blocks


if __name__ == "__main__":
    main()
