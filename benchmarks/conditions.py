"""Score models in different recording conditions.

    python benchmarks/conditions.py VOICES --split valid --models default runs/other --noise NOISE

VOICES has a folder for each split. Each split has a folder for each speaker, whose name begins with the name of a
corpus (`libri_1034`). The mixtures are drawn with a fixed seed, 100 for each condition. They are separated with
`Separator`, like in `separate`. Only the stems of voices are scored, even if a model has other stems. Choose models by
their mean over the conditions on the split valid. Use the split test only to report the chosen model.

Prints a table for each model: SI-SNRi with its 95% confidence interval, the median, the share of mixtures that are
worse than before, and the share of stems whose level is right within 1 dB. Then prints the paired differences from the
first model. --json writes all scores. --pictures writes spectrograms of a good and a bad clean mixture.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

import separator
from separator import figures, objectives
from separator.data import FolderCorpus, FolderNoise, GeneratedNoise, Mixing, Mixture, Mixtures, Rooms
from separator.data.corpora import find_speakers
from separator.data.speakers import corpus_of
from separator.evaluate import metrics, statistics

SEED = 20261
SECONDS = 6.0
# Corpus of all conditions but one, so that the corpus is the same. All other corpora are one condition.
CORPUS = "libri"
# A stem that is this far below the other one counts as inactive.
INACTIVE_DB = 20.0
LEVEL_DB = 1.0


@dataclass(frozen=True)
class Condition:
    """Settings for a set of mixtures.

    Attributes:
        mixing: settings of `separator.data.Mixing`.
        rooms: lowest and highest reverberation time in seconds. None for no rooms.
        snr_db: lowest and highest signal-to-noise ratio in dB. None for no noise.
        others: whether to use the voices of the other corpora.
    """

    mixing: Mapping[str, Any] = field(default_factory=dict)
    rooms: tuple[float, float] | None = None
    snr_db: tuple[float, float] | None = None
    others: bool = False


CONDITIONS = {
    "clean": Condition(),
    "other corpora": Condition(others=True),
    "near pitch": Condition({"near_pitch_share": 1.0}),
    "turns": Condition({"overlap": (0.0, 0.0), "segment_seconds": 9.0}),
    "a third of overlap": Condition({"overlap": (0.33, 0.33)}),
    "telephone": Condition(
        {"line_share": 1.0, "line_codec_share": 0.0, "line_low_hz": (300.0, 300.0), "line_high_hz": (3400.0, 3400.0)}
    ),
    "codecs": Condition({"codec_share": 1.0}),
    "rooms": Condition(rooms=(0.2, 0.6)),
    "noise": Condition(snr_db=(5.0, 15.0)),
    "rooms and noise": Condition(rooms=(0.2, 0.6), snr_db=(5.0, 15.0)),
    "one voice alone": Condition({"active": (1.0, 0.0)}),
    "hum and offset": Condition({"hum_share": 1.0, "hum_snr_db": (5.0, 20.0), "offset_share": 0.5}),
}


def mixtures(name: str, voices: Path, split: str, noise: Path | None, sample_rate: int) -> Mixtures:
    """Endless mixtures of a condition."""
    condition = CONDITIONS[name]
    folders = find_speakers(voices / split)
    chosen = {key: paths for key, paths in folders.items() if (corpus_of(key) == CORPUS) != condition.others}
    settings = {"segment_seconds": SECONDS, "peak_db": (-6.0, -1.0), **condition.mixing}
    background = bank = None
    if condition.snr_db is not None:
        kind = GeneratedNoise if noise is None else FolderNoise
        place = {} if noise is None else {"root": str(noise)}
        background = kind(snr_db=condition.snr_db, **place).background(split, sample_rate, SEED)
    if condition.rooms is not None:
        rooms = Rooms(target="reverberant", count=400, rt60_seconds=condition.rooms, seed=SEED)
        bank = rooms.bank(split, 2, sample_rate)
    corpus = FolderCorpus(chosen, sample_rate)
    return Mixtures([(corpus, 1.0)], 2, Mixing(**settings), SEED + len(split), background, bank)


def score(model: separator.Separator, item: Mixture) -> dict[str, float]:
    """Score one mixture. Values that do not apply are missing or nan."""
    stems = model.separate(item.mixture, item.sample_rate)
    number = model.num_interchangeable or len(stems)
    estimate = torch.stack([torch.as_tensor(stem) for stem in stems.values()])[:number]
    row: dict[str, Any] = {"id": item.name}
    if objectives.is_silent(item.sources).any():
        levels = 10 * torch.log10(estimate.square().sum(1) + 1e-12)
        loudest = int(levels.argmax())
        quiet = float(levels[loudest] - levels.sort(descending=True).values[1])
        row["si_snr"] = float(objectives.si_snr(estimate[loudest], item.sources[0]))
        row["right"] = float(quiet >= INACTIVE_DB)
        return row
    estimate = metrics.in_best_order(estimate, item)
    row["si_snri"] = float(objectives.si_snr_improvement(estimate[None], item.sources[None], item.mixture[None]))
    row["worse"] = float(row["si_snri"] < 0)
    errors = 20 * torch.log10(estimate.norm(dim=1) / item.sources.norm(dim=1) + 1e-12)
    row["level"] = float((errors.abs() < LEVEL_DB).float().mean())
    row["right"] = own_stems(estimate, item)
    return row


def own_stems(estimate: torch.Tensor, item: Mixture) -> float:
    """1 if each voice is louder in its own stem during the time in which it speaks alone, otherwise 0.

    Voices that speak alone for less than 1 s are ignored. nan if that is true of both.
    """
    hop = item.sample_rate // 10
    energies = [signal.unfold(1, hop, hop).square().sum(-1) for signal in (item.sources, estimate)]
    alone = energies[0] > 1e-3 * energies[0].amax(1, keepdim=True)
    right, found = True, False
    for voice in range(2):
        frames = alone[voice] & ~alone[1 - voice]
        if frames.sum() >= 10:
            found = True
            mine, other = (float(energies[1][place, frames].sum()) for place in (voice, 1 - voice))
            right &= mine > other
    return float(right) if found else math.nan


def table(name: str, rows: dict[str, list[dict[str, float]]]) -> None:
    print(f"\n| {name} | SI-SNRi, dB | median | worse than before | right stem, or silent stem found | right level |")
    print("| --- | --- | --- | --- | --- | --- |")
    for condition, scores in rows.items():
        means = statistics.summarize(scores)
        gain = means.get("si_snri")
        first = [f"{gain['mean']:.2f} ± {gain['confidence']:.2f}", f"{gain['median']:.2f}"] if gain else ["", ""]
        shares = [f"{means[key]['mean']:.0%}" if key in means else "" for key in ("worse", "right", "level")]
        print(f"| {condition} | {' | '.join([*first, *shares])} |")
    print(f"| mean over the conditions | {mean_over(rows):.2f} | | | | |", flush=True)


def mean_over(rows: dict[str, list[dict[str, float]]]) -> float:
    """Mean SI-SNRi in dB over the conditions. Conditions without SI-SNRi are left out."""
    gains = [[row["si_snri"] for row in scores] for scores in rows.values() if "si_snri" in scores[0]]
    return float(np.mean([np.mean(values) for values in gains]))


def differences(names: list[str], results: list[dict[str, list[dict[str, float]]]]) -> None:
    print(f"\n| difference from {names[0]}, dB | {' | '.join(names[1:])} |\n| --- |{' --- |' * len(names[1:])}")
    for condition, first in results[0].items():
        pairs = [statistics.compare(other[condition], first) for other in results[1:]]
        if pairs[0]["pairs"]:
            cells = [f"{pair['mean_difference']:+.2f} ± {pair['confidence']:.2f}" for pair in pairs]
            print(f"| {condition} | {' | '.join(cells)} |")
    print(f"| mean | {' | '.join(f'{mean_over(other) - mean_over(results[0]):+.2f}' for other in results[1:])} |")


def pictures(model: separator.Separator, items: list[Mixture], rows: list[dict[str, float]], folder: Path) -> None:
    """Draw spectrograms of a well and a badly separated mixture: the 90% and the 10% quantile of the SI-SNRi."""
    order = np.argsort([row["si_snri"] for row in rows])
    folder.mkdir(parents=True, exist_ok=True)
    for name, index in (("good", order[int(0.9 * len(order))]), ("bad", order[int(0.1 * len(order))])):
        item = items[index]
        stems = torch.stack([torch.as_tensor(stem) for stem in model.separate(item.mixture, item.sample_rate).values()])
        estimate = metrics.in_best_order(stems[:2], item)
        shown = {"mixture": item.mixture.numpy()}
        for number in range(2):
            shown[f"voice {number + 1}"] = item.sources[number].numpy()
            shown[f"stem {number + 1}"] = estimate[number].numpy()
        path = figures.draw_spectrograms(shown, item.sample_rate, folder / f"{name}.png")
        # Smaller for a model card: a quarter of the bytes, without a visible loss.
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((760, 2000))
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(path, f"{rows[index]['si_snri']:.1f} dB")


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("voices", type=Path, help="folder with a folder of speakers for each split")
    parser.add_argument("--split", choices=("valid", "test"), default="valid", help="split (default: valid)")
    parser.add_argument("--models", nargs="+", default=["default"], metavar="MODEL", help="models (default: default)")
    parser.add_argument("--noise", type=Path, metavar="DIR", help="recordings of noise (default: generated noise)")
    parser.add_argument("--count", type=int, default=100, help="mixtures for each condition (default: 100)")
    parser.add_argument("--conditions", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS), metavar="NAME")
    parser.add_argument("--shifts", type=int, default=1, help="passes with shifted input, see separate (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="output file for all scores")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="output folder for spectrograms")
    options = parser.parse_args()
    models = [separator.Separator(name, shifts=1 if "causal" in name else options.shifts) for name in options.models]
    results: list[dict[str, list[dict[str, float]]]] = [{} for _ in models]
    for condition in tqdm(options.conditions, disable=None):
        drawn = mixtures(condition, options.voices, options.split, options.noise, models[0].sample_rate)
        items = [drawn[index] for index in range(options.count)]
        for model, rows in zip(models, results, strict=True):
            rows[condition] = [score(model, item) for item in items]
            if options.pictures and condition == "clean" and model is models[0]:
                pictures(model, items, rows[condition], options.pictures)
    for name, rows in zip(options.models, results, strict=True):
        table(name, rows)
    if len(models) > 1:
        differences(options.models, results)
    if options.json:
        options.json.write_text(json.dumps(dict(zip(options.models, results, strict=True)), indent=1) + "\n")


if __name__ == "__main__":
    main()
