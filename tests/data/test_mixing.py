import shutil

import numpy as np
import pytest
import torch

from separator.data import FixedMixtures, FolderCorpus, GeneratedCorpus, Mixing, Mixtures, collate, load_batches
from separator.data.corpora import find_speakers
from separator.data.recordings import RecordingError
from separator.errors import ConfigError, DataError

RATE = 8000


@pytest.fixture(scope="module")
def corpus():
    return GeneratedCorpus(5, 2, 2.0, RATE, seed=3)


def mixtures(corpora, num_sources=2, seconds=1.0, seed=0, noise=None, rooms=None, **mixing):
    mixing = {"level_db": 6.0, "peak_db": (-12.0, -3.0), "segment_seconds": seconds} | mixing
    return Mixtures(corpora, num_sources, Mixing(**mixing), seed, noise, rooms)


@pytest.mark.parametrize("num_sources", [1, 2, 3])
def test_the_mixture_is_the_sum_of_its_sources(corpus, num_sources):
    for index in range(5):
        item = mixtures([(corpus, 1)], num_sources, speeds=(0.8, 1.2))[index]
        assert item.sources.shape == (num_sources, RATE)
        assert item.sources.dtype == item.mixture.dtype == torch.float32
        torch.testing.assert_close(item.mixture, item.sources.sum(0))


def test_an_example_depends_only_on_its_seed_and_number(corpus):
    forwards = [mixtures([(corpus, 1)], speeds=(0.9, 1.1))[index].mixture for index in range(6)]
    fresh = mixtures([(GeneratedCorpus(5, 2, 2.0, RATE, seed=3), 1)], speeds=(0.9, 1.1))
    backwards = {index: fresh[index].mixture for index in reversed(range(6))}
    for index, mixture in enumerate(forwards):
        assert torch.equal(mixture, backwards[index])
    assert not torch.equal(forwards[0], forwards[1])
    assert not torch.equal(forwards[0], mixtures([(corpus, 1)], speeds=(0.9, 1.1), seed=1)[0].mixture)


def test_mixtures_do_not_depend_on_the_workers(corpus):
    def batches(num_workers):
        return list(
            torch.utils.data.DataLoader(
                mixtures([(corpus, 1)]), batch_size=2, sampler=range(6), collate_fn=collate, num_workers=num_workers
            )
        )

    for alone, shared in zip(batches(0), batches(2), strict=True):
        assert torch.equal(alone.mixture, shared.mixture)
        assert torch.equal(alone.sources, shared.sources)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_worker_is_one_line(corpus, num_workers, monkeypatch):
    def draw(self, index, generator):
        raise RecordingError("a.wav: cannot be read as audio (broken: really); repair or remove it")

    monkeypatch.setattr(Mixtures, "_draw", draw)
    with pytest.raises(DataError) as error:
        next(load_batches(mixtures([(corpus, 1)]), 2, range(1), num_workers))
    assert str(error.value).startswith("20 unusable recordings in a row, the last one: a.wav: cannot be read")
    assert str(error.value).endswith("(broken: really); repair or remove it")


def test_levels_and_peaks_are_in_their_ranges(corpus):
    drawn = mixtures([(corpus, 1)], level_db=6.0, peak_db=(-12.0, -3.0))
    differences, peaks = [], []
    for index in range(40):
        item = drawn[index]
        levels = 10 * torch.log10(item.sources.square().mean(-1))
        differences.append(float((levels[0] - levels[1]).abs()))
        peaks.append(20 * float(torch.log10(item.mixture.abs().max())))
    assert max(differences) <= 6.01 and max(differences) > 3
    assert -12.01 <= min(peaks) < -9 and -6 < max(peaks) <= -2.99


def test_speed_changes_the_pitch():
    class Tone:
        sample_rate = RATE
        speakers = ("a", "b")

        def lengths(self, speaker):
            return [4 * RATE]

        def read(self, speaker, recording, start, num_samples):
            return np.sin(2 * np.pi * 500 * np.arange(start, start + num_samples) / RATE).astype(np.float32)

    item = mixtures([(Tone(), 1)], speeds=(1.2, 1.2))[0]
    peak = torch.fft.rfft(item.sources[0]).abs().argmax()
    assert int(peak) == 600


def test_a_mixture_has_different_speakers(corpus):
    for index in range(30):
        names = mixtures([(corpus, 1)], num_sources=3)[index].name.split("(")[1].strip(")").split("+")
        assert len(set(names)) == 3


def test_short_recordings_fill_a_long_mixture(corpus):
    item = mixtures([(corpus, 1)], seconds=7.0)[0]
    assert item.mixture.shape == (7 * RATE,)
    assert item.sources[:, -RATE:].square().mean() > 1e-5


def test_shares_of_several_corpora(corpus, corpus_folder):
    folder = FolderCorpus(find_speakers(corpus_folder), RATE)
    drawn = mixtures([(folder, 0.75), (corpus, 0.25)])
    share = np.mean(["voice" in drawn[index].name for index in range(80)])
    assert 0.1 < share < 0.4


def test_fixed_mixtures_are_the_same_every_time(corpus):
    fixed = FixedMixtures(mixtures([(corpus, 1)]), 4)
    assert len(fixed) == 4
    assert torch.equal(fixed[3].mixture, FixedMixtures(mixtures([(corpus, 1)]), 4)[3].mixture)


def test_more_voices_than_speakers_are_rejected(corpus):
    with pytest.raises(DataError, match="need 6 speakers, got 5"):
        mixtures([(corpus, 1)], num_sources=6)
    with pytest.raises(ConfigError, match=r"data\.mixing\.speeds"):
        mixtures([(corpus, 1)], speeds=(1.1, 0.9))


def test_a_recording_that_becomes_corrupt_later_is_replaced(corpus_folder, tmp_path):
    shutil.copytree(corpus_folder, tmp_path / "voices")
    corpus = FolderCorpus(find_speakers(tmp_path / "voices"), 8000, cache_megabytes=0)
    drawn = Mixtures([(corpus, 1.0)], 2, Mixing(segment_seconds=0.5), 0)
    whole = [drawn[index].mixture for index in range(20)]
    (tmp_path / "voices" / "speaker0" / "take0.wav").write_bytes(b"no longer audio")
    again = [drawn[index] for index in range(20)]
    hit = [index for index, item in enumerate(again) if item.skipped]
    assert 0 < len(hit) < 20 and all("take0.wav: cannot be read" in text for i in hit for text in again[i].skipped)
    assert all(torch.equal(again[index].mixture, whole[index]) == (index not in hit) for index in range(20))
    assert collate([again[hit[0]], again[hit[-1]]]).skipped == again[hit[0]].skipped + again[hit[-1]].skipped


@pytest.mark.parametrize(("processes", "parts", "workers"), [(1, 1, 0), (2, 1, 0), (2, 2, 0), (4, 1, 2)])
def test_the_shares_of_a_batch_make_up_the_whole_batch(corpus, processes, parts, workers):
    """This is true for any number of processes, parts and workers, and for any first step."""
    drawn = Mixtures([(corpus, 1.0)], 2, Mixing(segment_seconds=0.1), 0)
    shares = [
        [part for step in load_batches(drawn, 4, range(3, 5), workers, parts, rank, processes) for part in step]
        for rank in range(processes)
    ]
    for step in (0, 1):
        mixtures = [part.mixture for share in shares for part in share[step * parts : (step + 1) * parts]]
        expected = torch.stack([drawn[4 * (3 + step) + number].mixture for number in range(4)])
        assert torch.equal(torch.cat(mixtures), expected)


class Tones:
    """Corpus of speakers that are harmonic tones, each with its own pitch. Their names begin with corpus names."""

    sample_rate = RATE

    def __init__(self, pitches):
        self.pitches = list(pitches.values())
        self.speakers = list(pitches)

    def lengths(self, speaker):
        return [2 * RATE]

    def read(self, speaker, recording, start, num_samples):
        times = np.arange(start, min(start + num_samples, 2 * RATE)) / RATE
        # With harmonics, like a voice.
        return sum(np.sin(2 * np.pi * k * self.pitches[speaker] * times) / k for k in range(1, 6)).astype(np.float32)


def speakers_of(item):
    return item.name.partition("(")[2].rstrip(")").split("+")


def test_voices_are_drawn_according_to_the_shares_of_their_corpora():
    corpus = Tones(
        {f"{name}_{number}": 100 for name, count in (("a", 2), ("b", 9), ("c", 9)) for number in range(count)}
    )
    drawn = mixtures([(corpus, 1)], 1, corpus_shares={"a": 0.5, "b": 0.3})
    names = [speakers_of(drawn[index])[0][0] for index in range(400)]
    shares = {name: names.count(name) / 400 for name in "abc"}
    assert shares == pytest.approx({"a": 0.5, "b": 0.3, "c": 0.2}, abs=0.08)


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"a": 0.7, "b": 0.5}, r"add up to 1.2; they must add up to at most 1"),
        ({"a": 0.5, "b": 0.2, "c": 0.1}, r"add up to 0.8; they must add up to 1, because they name every corpus"),
        ({"libir": 0.5}, "names 'libir', but no speaker's name begins with it; the corpora are a, b, c"),
        ({"a": -0.1}, "corpus_shares.a"),
        (["a"], "must map corpora to their shares"),
    ],
)
def test_invalid_shares_are_rejected(shares, message):
    with pytest.raises(ConfigError, match=message):
        mixtures([(Tones({"a_1": 100, "b_1": 100, "c_1": 100}), 1)], 1, corpus_shares=shares)


def test_pairs_of_near_pitch_have_more_similar_pitch_than_others():
    corpus = Tones({f"x_{pitch}": pitch for pitch in np.geomspace(80, 350, 12).round().astype(int)})
    distances = {}
    for share in (0.0, 1.0):
        drawn = mixtures([(corpus, 1)], near_pitch_share=share)
        pairs = [[int(name[2:]) for name in speakers_of(drawn[index])] for index in range(60)]
        distances[share] = np.mean([abs(np.log2(one / two)) for one, two in pairs])
    assert distances[1.0] < 0.5 * distances[0.0]


def test_voices_take_turns_in_a_share_of_the_mixtures(corpus):
    drawn = mixtures([(corpus, 1)], turns_share=0.5, overlap=(0.0, 0.0), seconds=1.0)
    apart = [float((drawn[index].sources.abs() > 1e-3).all(0).float().mean()) < 0.05 for index in range(40)]
    assert 0.25 < np.mean(apart) < 0.75
