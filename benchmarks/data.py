"""Speed of the data loading: python benchmarks/data.py [--root VOICES] [--wait]

Prints the seconds of mixtures made per second, without augmentation and with each augmentation, with one worker per
core. With --wait, also prints the share of its time that a training step waits for data.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from separator.data import FolderData, GeneratedData, GeneratedNoise, Mixing, Rooms, load_batches

RATE, BATCH = 16000, 8
PLAIN = Mixing(segment_seconds=2.0)
MIXINGS = {
    "plain": PLAIN,
    "speed": replace(PLAIN, speeds=(0.85, 1.18)),
    "pitch": replace(PLAIN, semitones=(-3.0, 3.0)),
    "band limits": replace(PLAIN, band_share=1.0),
    "turns": replace(PLAIN, overlap=(0.2, 1.0), active=(0.3, 0.7)),
    "loudness": replace(PLAIN, loudness_lufs=(-33.0, -25.0)),
    "clipping": replace(PLAIN, clip_share=1.0),
    "codecs": replace(PLAIN, codec_share=1.0),
    "all of these but loudness": replace(
        PLAIN, speeds=(0.85, 1.18), semitones=(-3.0, 3.0), band_share=0.5, overlap=(0.2, 1.0), clip_share=0.2,
        codec_share=0.2,
    ),
}  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--root", help="folder of voices (default: generated voices)")
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="worker processes (default: one per core)")
    options.add_argument("--steps", type=int, default=60, help="number of timed batches (default: 60)")
    options.add_argument("--wait", action="store_true", help="also measure how long training waits for data")
    chosen = options.parse_args()
    kinds = {name: {"mixing": mixing} for name, mixing in MIXINGS.items()}
    kinds["noise"] = {"mixing": PLAIN, "noise": GeneratedNoise(num_recordings=20)}
    kinds["rooms"] = {"mixing": PLAIN, "rooms": Rooms(count=50)}
    print(f"{'voices of ' + chosen.root if chosen.root else 'generated voices'}, {chosen.workers} workers, {RATE} Hz")
    print("seconds of mixtures (two voices) made per second:")
    for name, settings in kinds.items():
        data = FolderData(root=chosen.root, **settings) if chosen.root else GeneratedData(num_speakers=50, **settings)
        mixtures = data.training(RATE, ("speaker1", "speaker2"), 0)
        print(f"  {name:28} {speed(mixtures, chosen.steps, chosen.workers):7.0f}", flush=True)
    if chosen.wait:
        print("share of its time that a training step waits for data (one worker):")
        for recipe in ("two_speakers", "noisy_reverberant"):
            print(f"  {recipe:28} {wait(recipe):7.1%}", flush=True)


def speed(mixtures, steps: int, workers: int) -> float:
    """Seconds of mixtures made per second, after the caches of the workers are filled."""
    warm = 2 * 4 * workers + 10  # prefetched batches, and batches that fill the caches
    batches = load_batches(mixtures, BATCH, range(warm + steps), workers)
    for _ in range(warm):
        next(batches)
    started = time.perf_counter()
    made = sum(part.mixture.numel() for _ in range(steps) for part in next(batches))
    return made / RATE / (time.perf_counter() - started)


def wait(recipe: str, steps: int = 240, counted: int = 120) -> float:
    """Share of the time that training waits for data, from the log of the last steps of a real run."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "separator.train", f"+recipe={recipe}", f"run={folder}"]
        command += [f"trainer.max_steps={steps}", "trainer.validate_every=100000", "data.valid_mixtures=1"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with Path(folder, "train.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) > steps - counted]
        return sum(float(row["data_wait"]) for row in rows) / len(rows)


if __name__ == "__main__":
    main()
