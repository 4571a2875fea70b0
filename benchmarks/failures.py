"""Where a model fails, with numbers: python benchmarks/failures.py LIST.csv MODEL [MODEL ...]

Mixtures of two voices from a list: as they are, by how far apart the voices' pitches lie, behind generated noise and
music 15 dB below them, in simulated rooms; each voice of them alone; and the levels of the stems. Made by `Separator`,
as `separate` does. With --pictures DIR spectrograms of a good mixture and a bad one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import librosa
import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import separator
from separator import evaluate, report
from separator.data import Mixture, MixtureSet
from separator.data.layouts import mixture_list
from separator.data.noises import babble, blows, hiss, hum, tones
from separator.data.rooms import Rooms

SNR_DB = 15.0
NOISES = {"hiss": hiss, "hum": hum, "blows": blows, "babble": babble, "music (tones)": tones}
# Within this ratio two median pitches are alike.
ALIKE = 1.25


def noisy(item: Mixture, make: Callable, number: int) -> Mixture:
    """With a noise 15 dB below the voices."""
    seconds = item.mixture.shape[-1] / item.sample_rate
    noise = make(seconds, item.sample_rate, np.random.default_rng([9, number]))[: item.mixture.shape[-1]]
    noise = torch.from_numpy(np.ascontiguousarray(noise)).float()
    gain = item.mixture.norm() / noise.norm() * 10 ** (-SNR_DB / 20)
    return replace(item, mixture=item.mixture + gain * noise)


def in_room(item: Mixture, bank, number: int) -> Mixture:
    """In a room; what is asked for are the voices as their direct sound arrives."""
    heard, dry = bank.place(item.sources.numpy(), np.random.default_rng([10, number]))
    return replace(item, mixture=torch.from_numpy(heard.sum(0)), sources=torch.from_numpy(dry))


def improvement(model: separator.Separator, item: Mixture) -> float:
    estimate = evaluate.separated(model, item)
    return float(separator.si_snr_improvement(estimate[None], item.sources[None], item.mixture[None]))


def pitch(voice: torch.Tensor, sample_rate: int) -> float:
    """Median fundamental frequency in Hz."""
    track, voiced, _ = librosa.pyin(voice.numpy(), fmin=60, fmax=400, sr=sample_rate, frame_length=1024)
    return float(np.median(track[voiced])) if voiced.any() else float("nan")


def mean(values: Iterable[float]) -> str:
    values = np.array(list(values))
    if not len(values):
        return "-"
    return f"{values.mean():.2f} +- {1.96 * values.std(ddof=1) / len(values) ** 0.5:.2f}" if len(values) > 1 else "-"


def by_pitch(items: list[Mixture], gains: list[float]) -> None:
    groups: dict[str, list[float]] = {"pitches alike": [], "both low, or both high": [], "one low, one high": []}
    for item, gain in zip(tqdm(items, "pitches", disable=None), gains, strict=True):
        low, high = sorted(pitch(source, item.sample_rate) for source in item.sources)
        groups["pitches alike"] += [gain] * (high / low < ALIKE)
        groups["one low, one high" if low < 160 <= high else "both low, or both high"].append(gain)
    for name, values in groups.items():
        print(f"| {name} ({len(values)}) | {mean(values)} dB |")


def levels(model: separator.Separator, items: list[Mixture]) -> None:
    errors, residuals = [], []
    for item in items:
        estimate = evaluate.separated(model, item)
        errors += (20 * torch.log10(estimate.norm(dim=1) / item.sources.norm(dim=1))).tolist()
        missing = item.mixture - estimate.sum(0)
        residuals.append(20 * float(torch.log10(missing.norm() / item.mixture.norm() + 1e-9)))
    errors = np.abs(errors).reshape(len(items), -1)
    print(f"| stems whose level is right to 1 dB | {(errors < 1).mean():.0%} |")
    print(f"| mixtures with all stems' levels right to 1 dB | {(errors < 1).all(1).mean():.0%} |")
    print(f"| error of the level, median, 90% of stems | {np.median(errors):.2f}, {np.quantile(errors, 0.9):.2f} dB |")
    print(f"| what the stems' sum lacks of the mixture, at most | {max(residuals):.0f} dB |")


def alone(model: separator.Separator, items: list[Mixture]) -> None:
    quiet, errors = [], []
    for item in items:
        for source in item.sources:
            stems = torch.stack([torch.as_tensor(stem) for stem in model.separate(source, item.sample_rate).values()])
            energies, order = stems.square().sum(1).sort(descending=True)
            quiet.append(10 * float(torch.log10(energies[1] / energies[0] + 1e-12)))
            errors.append(float(separator.si_snr(stems[order[0]], source)))
    quiet = np.array(quiet)
    print(
        f"| one voice alone: the other stem below it, median, mean | {-np.median(quiet):.1f}, {-quiet.mean():.1f} dB |"
    )
    print(f"| told as inactive, 20 dB below | {(quiet <= -20).mean():.0%} |")
    print(f"| SI-SNR of the voice, median | {np.median(errors):.1f} dB |")


def pictures(model: separator.Separator, items: list[Mixture], gains: list[float], folder: Path) -> None:
    order = np.argsort(gains)
    for name, index in (("good", order[int(0.9 * len(order))]), ("bad", order[int(0.1 * len(order))])):
        item = items[index]
        estimate = evaluate.separated(model, item)
        shown = {"mixture": item.mixture.numpy()}
        for number in range(len(estimate)):
            shown[f"voice {number + 1}"] = item.sources[number].numpy()
            shown[f"stem {number + 1}"] = estimate[number].numpy()
        folder.mkdir(parents=True, exist_ok=True)
        path = report.draw_spectrograms(shown, item.sample_rate, folder / f"{name}.png")
        # For a model card: a quarter of the bytes, and nothing that one would miss.
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((760, 2000))
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, f"{gains[index]:.1f} dB")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path, help="as for python -m separator.evaluate")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--count", type=int, help="only the first so many mixtures")
    parser.add_argument("--shifts", type=int, default=1, help="as for separate")
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    options = parser.parse_args()
    for name in options.models:
        model = separator.Separator(name, shifts=options.shifts)
        mixtures = MixtureSet(mixture_list(options.list, model.sources), model.sample_rate)
        items = [mixtures[index] for index in range(min(options.count or len(mixtures), len(mixtures)))]
        gains = [improvement(model, item) for item in tqdm(items, "mixtures", disable=None)]
        print(f"\n| {name}, {len(items)} mixtures | SI-SNRi |\n| --- | --- |\n| as they are | {mean(gains)} dB |")
        print(f"| worse than they were | {np.mean(np.array(gains) < 0):.0%} |")
        by_pitch(items, gains)
        for noise, make in NOISES.items():
            scores = [improvement(model, noisy(item, make, number)) for number, item in enumerate(items)]
            print(f"| behind {noise}, {SNR_DB:g} dB below | {mean(scores)} dB |")
        for low, high in ((0.1, 0.3), (0.3, 0.6)):
            bank = Rooms(count=80, rt60_seconds=(low, high)).bank("test", len(model.sources), model.sample_rate)
            scores = [improvement(model, in_room(item, bank, number)) for number, item in enumerate(items)]
            print(f"| in rooms with {low:g} to {high:g} s of reverberation | {mean(scores)} dB |")
        alone(model, items)
        levels(model, items)
        if options.pictures:
            pictures(model, items, gains, options.pictures)


if __name__ == "__main__":
    main()
