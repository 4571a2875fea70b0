"""Time of `separate` on 10 s of stereo at 44.1 kHz, from the command to the files, in a new process each time.

Also prints the time of each step.

    python benchmarks/cold_start.py [--rounds 5] [--seconds 10]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

# The steps of the process. Each prints its time in seconds.
STEPS = """
import sys, time
before = time.perf_counter()
def report(step):
    global before
    now = time.perf_counter()
    print(f"  {step}: {now - before:.2f} s")
    before = now
import torch
report("import torch")
from separator import cli
from separator.inference.separation import Separator
report("import separator, numpy, soundfile, soxr")
separator = Separator("default")
report("load the model")
for times in ("first", "second"):
    separator.separate_file(sys.argv[1], sys.argv[2], overwrite=True)
    report(f"separate and write, {times} time")
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="number of timed runs (default: 5)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the recording (default: 10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mix.wav"
        samples = 0.1 * np.random.default_rng(0).standard_normal((round(44100 * options.seconds), 2))
        soundfile.write(path, samples, 44100)
        command = [sys.executable, "-m", "separator.cli", str(path), "-o", folder, "-f"]
        times = []
        for _ in range(options.rounds + 1):
            started = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times.append(time.perf_counter() - started)
        times = times[1:]  # the first run reads its files from the disk, not from the cache
        median = statistics.median(times)
        print(f"separate, {options.seconds:g} s: {median:.2f} s ({min(times):.2f} to {max(times):.2f})")
        steps = [sys.executable, "-c", STEPS, str(path), folder]
        print(subprocess.run(steps, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
