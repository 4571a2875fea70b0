"""Peak memory and time of `separate` for long recordings.

Makes stereo recordings of two voices at 44.1 kHz, 16 bit, of 10 and 60 minutes, and runs `separate` on each in its own
process. For comparison, runs torchaudio's ConvTasNet (standard sizes, 8 kHz, mono) on 1 and 2 minutes without chunks,
which is how it and other networks are normally used.

    python benchmarks/long_files.py [--minutes 10 60] [--folder DIR]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import soxr

from separator.data import Voice

RATE = 44100
TORCHAUDIO = """
import sys, torch, torchaudio
net = torchaudio.models.conv_tasnet_base(num_sources=2).eval()
with torch.inference_mode():
    net(0.1 * torch.randn(1, 1, int(8000 * 60 * float(sys.argv[1]))))
"""


def make(path, minutes):
    """Write half a minute of two voices, one on each side, repeatedly, each time at a different level."""
    voices = []
    for seed in (1, 2):
        generator = np.random.default_rng([77, 77, 77, seed])
        voices.append(soxr.resample(Voice.draw(generator).speak(30.0, 16000, generator), 16000, RATE))
    left, right = (0.3 * voice / np.abs(voice).max() for voice in voices)
    stereo = np.stack([left + 0.5 * right, 0.5 * left + right], axis=1)
    generator = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for _ in range(int(2 * minutes)):
            file.write(stereo * generator.uniform(0.3, 1.0))


def run(command):
    """Run a process. Return its peak memory in MiB and its time in seconds."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, f"{command} failed"
    return usage.ru_maxrss / 2**10, time.perf_counter() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, nargs="+", default=[10.0, 60.0], help="lengths (default: 10 60)")
    parser.add_argument("--folder", type=Path, help="folder for the recordings (11 MB per minute) and the stems")
    parser.add_argument("--model", default="default", help="model (default: default)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for minutes in options.minutes:
            path = Path(folder) / f"{minutes:g}.wav"
            make(path, minutes)
            command = [sys.executable, "-m", "separator.cli", path, "-m", options.model, "-o", folder]
            memory, seconds = run(list(map(str, command)))
            print(
                f"separate, {minutes:g} min of stereo at 44.1 kHz: {memory:.0f} MB, {seconds:.1f} s "
                f"({seconds / minutes / 60:.4f} s per second of audio)",
                flush=True,
            )
            path.unlink()
    for minutes in (1, 2):
        memory, seconds = run([sys.executable, "-c", TORCHAUDIO, str(minutes)])
        print(
            f"torchaudio without chunks, {minutes} min of mono at 8 kHz: {memory:.0f} MB, {seconds:.1f} s "
            f"({seconds / minutes / 60:.4f} s per second of audio)"
        )


if __name__ == "__main__":
    main()
