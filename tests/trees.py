"""Published corpora as small trees of noise in exactly their layout."""

import csv

import numpy as np
import soundfile

from separator.data.layouts.musdb import MUSDB_STEMS

RATE = 8000


def noise(seed, seconds=1.0, rate=RATE, channels=1):
    return 0.1 * np.random.default_rng(seed).standard_normal((int(seconds * rate), channels))


def write(path, samples, rate=RATE, subtype=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype)
    return path


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def librispeech(folder):
    for subset, speakers in (("train-clean-100", (19, 26, 32)), ("dev-clean", (84, 174))):
        for speaker in speakers:
            for number in range(2):
                name = f"{speaker}-{198 + number}-0000.flac"
                write(folder / "LibriSpeech" / subset / str(speaker) / str(198 + number) / name, noise(speaker))
            (folder / "LibriSpeech" / subset / str(speaker) / "198" / f"{speaker}-198.trans.txt").write_text("A B")
    return folder / "LibriSpeech"


def librimix(folder, rate, train):
    root = folder / "Libri2Mix"
    for split, count in ((train, 3), ("dev", 2)):
        folder = root / f"wav{rate // 1000}k" / "min"
        for kind in ("mix_clean", "mix_both", "mix_single"):
            rows = []
            for number in range(count):
                name = f"{number}-a_{number}-b"
                first, second, hiss = (noise(10 * number + source, 0.7, rate) for source in range(3))
                parts = {"s1": first, "s2": second, "noise": hiss}
                mixture = {
                    "mix_clean": first + second,
                    "mix_both": first + second + hiss,
                    "mix_single": first + hiss,
                }[kind]
                for source, samples in {**parts, kind: mixture}.items():
                    write(folder / split / source / f"{name}.wav", samples, rate)
                # Paths as on the machine where the set was made.
                there = f"/scratch/made/Libri2Mix/{folder.parent.name}/min/{split}"
                row = {"mixture_ID": name, "mixture_path": f"{there}/{kind}/{name}.wav"}
                row |= {f"source_{source}_path": f"{there}/s{source}/{name}.wav" for source in (1, 2)}
                if kind != "mix_clean":
                    row["noise_path"] = f"{there}/noise/{name}.wav"
                rows.append(row | {"length": int(0.7 * rate)})
            write_rows(folder / "metadata" / f"mixture_{split}_{kind}.csv", rows)
    return root


def wsj0_mix(folder, rate):
    root = folder / "2speakers" / "wav8k" / "min"
    for split in ("tr", "cv", "tt"):
        for number in range(2):
            first, second = noise(number, rate=rate), noise(number + 50, rate=rate)
            for kind, samples in (("mix", first + second), ("s1", first), ("s2", second)):
                write(root / split / kind / f"01ta{number}_0.6_40n_-0.6.wav", samples, rate)
    return root


def musdb(folder):
    tracks = {"train": ("A - One", "B - Two", "James May - On The Line"), "test": ("C - Three",)}
    for split, names in tracks.items():
        for name in names:
            stems = {stem: noise(len(name) + number, 1.0, 44100, 2) for number, stem in enumerate(MUSDB_STEMS)}
            for stem, samples in (stems | {"mixture": sum(stems.values())}).items():
                write(folder / "musdb" / split / name / f"{stem}.wav", samples, 44100)
    return folder / "musdb"
