"""Test whether each speaker stays in the same stem during a long conversation.

Makes conversations of two speakers who take turns (20% overlap, pauses of up to 20 s), and separates each in chunks.
The sources of the chunks are put in order in three ways: by `separate`, by plain correlation of the overlaps (like
other tools), and by an oracle that knows the truth. The SI-SNRi is that of the whole conversation.

    python benchmarks/conversation.py --root VOICES/test --count 20

With `--fit`, measures how much the spectra of one voice vary, from conversations of the speakers in `--root`. Writes
the statistics that `separator.inference.speaker_matching` uses:

    python benchmarks/conversation.py --root VOICES/train --count 250 --seconds 75 \\
        --fit separator/inference/speaker_statistics.safetensors
"""

import argparse
import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

import separator
from separator import objectives
from separator.data.recordings import audio_files, read_audio
from separator.inference import chunks, speaker_matching
from separator.inference.network_runner import Estimator

OVERLAP, MAX_PAUSE = 0.2, 20.0
SEGMENT_SECONDS, CHUNK_OVERLAP = 12.0, 0.25
FADE_SECONDS = 0.05


def read_speakers(root, rate):
    """Speaker -> all recordings, concatenated, `[time]`."""
    voices = defaultdict(list)
    for path in sorted(audio_files(root)):
        voices[path.parent.name].append(read_audio(path, rate))
    return {name: np.concatenate(parts) for name, parts in voices.items()}


def converse(voices, seconds, rate, generator):
    """Make a conversation `[speaker, time]`: two speakers, turns of 1.5 to 7 s. A fifth of the speech overlaps."""
    levels = 10 ** (generator.uniform(-2.5, 2.5, 2) / 20)
    voices = [level * voice / np.sqrt(np.mean(np.square(voice))) for level, voice in zip(levels, voices, strict=True)]
    total = int(seconds * rate)
    speech, talking = np.zeros((2, total), np.float32), np.zeros((2, total), bool)
    who, own_end = int(generator.integers(2)), [0.0, 0.0]
    start, before = 0.5, 0.0
    while int(start * rate) < total:
        length = generator.uniform(1.5, 7.0)
        voice = voices[who]
        offset = generator.integers(0, max(1, len(voice) - int(length * rate)))
        turn = voice[offset : offset + int(length * rate)]
        first = int(start * rate)
        turn = turn[: total - first].copy()
        fade = np.linspace(0, 1, min(int(FADE_SECONDS * rate), len(turn) // 2))
        turn[: len(fade)] *= fade
        turn[len(turn) - len(fade) :] *= fade[::-1]
        speech[who, first : first + len(turn)] += turn
        talking[who, first : first + len(turn)] = True
        own_end[who] = start + len(turn) / rate
        end, before = max(own_end), length
        who = 1 - who if generator.random() < 0.8 else who
        if talking.all(0).sum() < OVERLAP * talking.any(0).sum():
            start = max(own_end[who], end - generator.uniform(0.5, 0.9) * before)
        elif generator.random() < 0.35:
            start = end + generator.uniform(2.0, MAX_PAUSE)
        else:
            start = end + generator.uniform(0.1, 0.8)
    return 0.9 / np.abs(speech.sum(0)).max() * speech


def conversations(voices, count, seconds, rate, seed):
    """Make `count` pairs of names and their conversations. Every speaker is used once before one is used again."""
    generator = np.random.default_rng(seed)
    names, order = list(voices), []
    while len(order) < 2 * count:
        order += list(generator.permutation(len(names)))[: len(names) // 2 * 2]
    for number in range(count):
        pair = [names[order[2 * number]], names[order[2 * number + 1]]]
        parts = [voices[name] for name in pair]
        yield pair, converse(parts, seconds, rate, np.random.default_rng([seed, number]))


def separated(estimator, mixture, rate):
    """Separate in chunks. Return the start and the sources `[source, time]` of each chunk."""
    segment = int(SEGMENT_SECONDS * rate)
    return [
        (start, estimator([torch.from_numpy(samples)])[0][:, 0])
        for start, samples in chunks.cut([mixture[None]], segment, int(CHUNK_OVERLAP * segment))
    ]


def by_memory(pieces, rate):
    memory = speaker_matching.SpeakerMatcher(rate)
    for start, sources in pieces:
        memory.observe(start, sources)
    return memory.decide()


def by_correlation(pieces):
    orders = [(0, 1)]
    for (start, before), (begin, after) in itertools.pairwise(pieces):
        known = before[list(orders[-1])][:, begin - start :].double()
        products = known @ after[:, : known.shape[1]].double().T
        orders.append(tuple(objectives.best_permutation(products[None])[0].tolist()))
    return orders


def by_oracle(pieces, speech):
    products = [
        torch.from_numpy(speech[:, start : start + sources.shape[1]]).double() @ sources.double().T
        for start, sources in pieces
    ]
    return [tuple(objectives.best_permutation(item[None])[0].tolist()) for item in products]


def improvement(pieces, orders, speech):
    ordered = ((start, sources[list(order)].numpy()) for (start, sources), order in zip(pieces, orders, strict=True))
    estimate = torch.from_numpy(np.concatenate(list(chunks.join(ordered)), axis=-1))
    reference = torch.from_numpy(speech)
    return float(objectives.si_snr_improvement(estimate[None], reference[None], reference.sum(0)[None]))


def changes(orders):
    return np.array([one != two for one, two in itertools.pairwise(orders)])


def compare(estimator, voices, options, rate):
    rows, sure, right = [], [], []
    print("SI-SNRi in dB: oracle, separate (loss against the oracle), plain correlation; wrong joins of the last two")
    for pair, speech in conversations(voices, options.count, options.seconds, rate, options.seed):
        pieces = separated(estimator, speech.sum(0), rate)
        oracle = by_oracle(pieces, speech)
        ours, confidences = by_memory(pieces, rate)
        plain = by_correlation(pieces)
        scores = [improvement(pieces, orders, speech) for orders in (oracle, ours, plain)]
        wrong = [int((changes(orders) != changes(oracle)).sum()) for orders in (ours, plain)]
        rows.append([*scores, *wrong, len(pieces) - 1])
        sure += confidences
        right += list(changes(ours) == changes(oracle))
        print(
            f"  {' and '.join(pair)}: {scores[0]:.2f}, {scores[1]:.2f} ({scores[0] - scores[1]:.2f}), {scores[2]:.2f}; "
            f"{wrong[0]} and {wrong[1]} of {len(pieces) - 1}",
            flush=True,
        )
    rows, sure, right = np.array(rows), np.array(sure), np.array(right)
    loss = rows[:, 0] - rows[:, 1]
    print(
        f"mean of {len(rows)}: oracle {rows[:, 0].mean():.2f}, separate {rows[:, 1].mean():.2f}, correlation "
        f"{rows[:, 2].mean():.2f}; separate loses {loss.mean():.2f} dB (at most {loss.max():.2f}), correlation "
        f"{(rows[:, 0] - rows[:, 2]).mean():.2f} dB"
    )
    print("joins by confidence: " + ", ".join(
        f"{low:g} to {high:g}: {100 * right[chosen].mean():.0f}% right of {chosen.sum()}"
        for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01))
        if (chosen := (sure >= low) & (sure < high)).any()
    ))  # fmt: skip


def fit(estimator, voices, options, rate):
    """Fit the covariance of the spectra of one voice between chunks, with the weights of `SpeakerMatcher`."""
    spectra, weights = defaultdict(list), defaultdict(list)
    for pair, speech in conversations(voices, options.count, options.seconds, rate, options.seed):
        pieces = separated(estimator, speech.sum(0), rate)
        for (_, sources), order in zip(pieces, by_oracle(pieces, speech), strict=True):
            voice = speaker_matching.describe(sources[list(order)], rate)
            for name, spectrum, frames in zip(pair, voice.spectra, voice.frames, strict=True):
                if frames >= 50:
                    spectra[name].append(spectrum)
                    weights[name].append(frames / (frames + speaker_matching.HALF_FRAMES))
    scatter, total = 0.0, 0.0
    for name, own in spectra.items():
        if len(own) > 1:
            weight = np.array(weights[name])[:, None]
            centred = np.array(own) - (weight * own).sum(0) / weight.sum()
            scatter = scatter + len(own) / (len(own) - 1) * (weight * centred).T @ centred
            total += weight.sum()
    save_file({"scatter": (scatter / total).astype(np.float32)}, options.fit)
    options.fit.chmod(0o644)
    print(f"{options.fit}: from {sum(map(len, spectra.values()))} spectra of {len(spectra)} speakers")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="a folder of recordings per speaker, at any rate")
    parser.add_argument("--model", default="default", help="model (default: default)")
    parser.add_argument("--count", type=int, default=10, help="number of conversations (default: 10)")
    parser.add_argument("--seconds", type=float, default=600.0, help="length of a conversation (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    parser.add_argument("--fit", type=Path, metavar="FILE", help="output file for the fitted statistics")
    options = parser.parse_args()
    estimator = Estimator(separator.Separator(options.model).net)
    rate = estimator.net.sample_rate
    (fit if options.fit else compare)(estimator, read_speakers(options.root, rate), options, rate)


if __name__ == "__main__":
    main()
