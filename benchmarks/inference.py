"""Speed of separation, compared with other implementations on the same weights. All run in turns in one process.

The network is the standard configuration of Luo & Mesgarani 2019 at 8 kHz with one set of random weights. Compared are
- torchaudio's network (eager, float32), the reference,
- asteroid's network, if it is installed,
- our network, and its fast form in float32 and bfloat16,
- our network exported to ONNX, in ONNX Runtime and OpenVINO.
The agreement is the SNR to torchaudio's output.

    python benchmarks/inference.py [--seconds 4 60] [--threads 2]

If there is a GPU, also times batches of 16 chunks of 4 s and prints their memory. `--model NAME` times a model in
`Separator` instead.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torchaudio

import separator
from separator.export import export
from separator.zoo.foreign import torchaudio as torchaudio_layout

RATE = 8000
# Pause before each timing: the threads of some runtimes keep spinning for a while and slow down the next one.
PAUSE_SECONDS = 0.5


def same_weights():
    """torchaudio's network, and ours with the same weights."""
    torch.manual_seed(0)
    theirs = torchaudio.models.ConvTasNet(msk_activate="relu").eval().requires_grad_(False)
    for weight in theirs.parameters():
        weight.add_(
            0.03 * torch.randn_like(weight)
        )  # different from the initial values, which are the same in all norms
    ours = torchaudio_layout.convert(theirs.state_dict(), "torchaudio", RATE, 8, "relu").requires_grad_(False)
    return theirs, ours


def candidates(theirs, ours, folder):
    """Name -> function that separates a mixture `[1, time]` into stems `[1, source, time]`."""
    found = {
        "torchaudio, float32": lambda mixture: theirs(mixture[:, None]),
        "ours, eager": ours,
        "ours, fast, float32": ours.fast(),
        "ours, fast, bfloat16": ours.fast(torch.bfloat16),
    }
    try:
        from asteroid.models import ConvTasNet

        net = ConvTasNet(n_src=2, mask_act="relu", sample_rate=RATE).eval()
        found["asteroid, float32 (other weights)"] = net
    except ImportError:
        print("asteroid is not installed")
    path = Path(folder) / "net.onnx"
    export(ours, path)
    try:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(path, options)
        found["ours, ONNX Runtime"] = lambda mixture: torch.from_numpy(
            session.run(None, {"mixture": mixture.numpy()})[0]
        )
    except ImportError:
        print("onnxruntime is not installed")
    try:
        import openvino

        core = openvino.Core()
        for precision in ("f32", "bf16"):
            settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            compiled = core.compile_model(path, "CPU", settings)
            found[f"ours, OpenVINO, {precision}"] = lambda mixture, compiled=compiled: torch.from_numpy(
                compiled(mixture.numpy())[0].copy()
            )
    except ImportError:
        print("openvino is not installed")
    return found


def agreement(estimate, reference):
    # An exported network corrects the sign of its stems. The reference does not, and its random weights can flip it.
    estimate = estimate * (estimate * reference).sum(-1, keepdim=True).sign()
    return float(10 * torch.log10(reference.square().sum() / (estimate - reference).square().sum()))


@torch.inference_mode()
def compare(found, seconds, rounds):
    mixture = 0.1 * torch.randn(1, round(RATE * seconds))
    expected, times = None, {name: [] for name in found}
    agreements = {}
    for name, run in found.items():  # also the warm-up
        run(mixture)
        stems = run(mixture)
        expected = stems if expected is None else expected
        agreements[name] = agreement(stems, expected)
    for _ in range(rounds):
        for name, run in found.items():
            time.sleep(PAUSE_SECONDS)
            run(mixture)  # wakes up the processor and the threads
            started = time.perf_counter()
            run(mixture)
            times[name].append(time.perf_counter() - started)
    yardstick = times["torchaudio, float32"]
    print(f"{seconds:g} s of audio, {torch.get_num_threads()} threads, median of {rounds}:")
    for name, own in times.items():
        ratios = [theirs / ours for theirs, ours in zip(yardstick, own, strict=True)]
        agrees = "" if "other weights" in name or own is yardstick else f", {agreements[name]:.0f} dB"
        print(
            f"  {name}: {statistics.median(own) / seconds:.4f} s per second of audio, {statistics.median(ratios):.2f} "
            f"times as fast ({min(ratios):.2f} to {max(ratios):.2f}){agrees}"
        )


@torch.inference_mode()
def on_gpu(theirs, ours):
    """Time a batch of 16 chunks of 4 s on the GPU."""
    mixture = 0.1 * torch.randn(16, 4 * RATE, device="cuda")
    theirs, ours = theirs.cuda(), ours.cuda()

    def in_bfloat16(mixture):
        with torch.autocast("cuda", torch.bfloat16):
            return ours(mixture)

    found = {
        "torchaudio, float32": lambda mixture: theirs(mixture[:, None]),
        "ours, float32": ours,
        "ours, bfloat16": in_bfloat16,
    }
    expected = None
    for name, run in found.items():
        run(mixture)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        for _ in range(10):
            stems = run(mixture)
        torch.cuda.synchronize()
        expected = stems if expected is None else expected
        print(
            f"  {name}: {100 * (time.perf_counter() - started):.1f} ms, {agreement(stems, expected):.0f} dB, "
            f"{torch.cuda.max_memory_allocated() / 2**20:.0f} MB"
        )


def time_model(name, seconds, shifts):
    """Time a model in `Separator`, in both precisions."""
    for precision in ("float32", "auto"):
        model = separator.Separator(name, precision=precision, shifts=shifts)
        samples = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * model.sample_rate)).astype(np.float32)
        model.separate(samples, model.sample_rate)
        started = time.perf_counter()
        model.separate(samples, model.sample_rate)
        print(
            f"{name}, {model.precision}: {(time.perf_counter() - started) / seconds:.5f} s per second of audio "
            f"({seconds:g} s)"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--seconds", type=float, nargs="+", default=[4.0, 60.0], help="lengths of audio (default: 4 60)"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=7, help="number of timed runs (default: 7)")
    parser.add_argument("--model", help="model to time in Separator instead")
    parser.add_argument("--shifts", type=int, default=1, help="passes with shifted input for --model (default: 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model:
        for seconds in options.seconds:
            time_model(options.model, seconds, options.shifts)
        return
    theirs, ours = same_weights()
    with tempfile.TemporaryDirectory() as folder:
        found = candidates(theirs, ours, folder)
        for seconds in options.seconds:
            compare(found, seconds, options.rounds)
    if torch.cuda.is_available():
        on_gpu(theirs, ours)


if __name__ == "__main__":
    main()
