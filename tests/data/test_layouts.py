"""Tests with a small folder tree in the exact layout of each published corpus."""

import dataclasses
import json
import shutil

import hydra
import numpy as np
import pytest
import torch
import trees
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from trees import noise, write, write_rows

from separator import config
from separator.data import (
    DnsData,
    FolderNoise,
    LibriMixData,
    LibriSpeechData,
    ManifestData,
    Mixing,
    MixtureListData,
    MixtureSet,
    MusdbData,
    Wsj0MixData,
)
from separator.data.corpora import split_files
from separator.data.layouts.musdb import MUSDB_STEMS
from separator.data.layouts.musdb import musdb as musdb_rows
from separator.data.lists import mixture_list
from separator.data.recordings import RecordingError
from separator.errors import ConfigError, DataError

RATE = trees.RATE
TWO = ("speaker1", "speaker2")


def composed(group, *overrides):
    """The settings of a data group."""
    with initialize_config_dir(config.config_directory(), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=[f"data={group}", *overrides]), resolve=True)["data"]


@pytest.fixture
def librispeech(tmp_path):
    return trees.librispeech(tmp_path)


@pytest.fixture
def librimix(tmp_path):
    return trees.librimix(tmp_path, RATE, "train-100")


@pytest.fixture
def wsj0_mix(tmp_path):
    return trees.wsj0_mix(tmp_path, RATE)


@pytest.fixture
def musdb(tmp_path):
    return trees.musdb(tmp_path)


def test_librispeech(librispeech):
    data = LibriSpeechData(root=str(librispeech), mixing=Mixing(segment_seconds=0.5), valid_mixtures=3)
    assert set(data.speakers("train")) == {"19", "26", "32"} and set(data.speakers("valid")) == {"84", "174"}
    assert data.training(RATE, TWO, 0)[0].sources.shape == (2, RATE // 2)
    assert {"84", "174"} == set(data.validation(RATE, TWO, 0)[0].name.split("(")[1].strip(")").split("+"))


def test_the_error_for_missing_librispeech_has_its_address(librispeech):
    with pytest.raises(DataError, match=r"train-clean-360: no such folder; .*openslr\.org/12"):
        LibriSpeechData(root=str(librispeech), train=["train-clean-360"]).training(RATE, TWO, 0)


@pytest.mark.parametrize(
    ("task", "sources", "rest"),
    [("sep_clean", TWO, False), ("sep_noisy", TWO, True), ("enh_single", TWO[:1], True), ("enh_both", TWO[:1], True)],
)
def test_librimix(librimix, task, sources, rest):
    data = LibriMixData(root=str(librimix), task=task, train="train-100", segment_seconds=0.5)
    item = data.training(RATE, sources, 0)[4]
    assert item.mixture.shape == (RATE // 2,) and item.sources.shape == (len(sources), RATE // 2)
    difference = (item.mixture - item.sources.sum(0)).square().mean().sqrt()
    assert (difference > 0.05) == rest and (rest or difference < 1e-3)
    assert len(data.validation(RATE, sources, 0)) == 2


def test_the_error_for_missing_librimix_has_its_address(librimix):
    with pytest.raises(DataError, match=r"mixture_train-360_mix_clean\.csv: no such file; make LibriMix with https"):
        LibriMixData(root=str(librimix)).training(RATE, TWO, 0)
    with pytest.raises(ConfigError, match=r"unknown data\.task 'sep_clear'.*did you mean 'sep_clean'"):
        LibriMixData(root=str(librimix), task="sep_clear").training(RATE, TWO, 0)


def test_wsj0_mix(wsj0_mix):
    data = Wsj0MixData(root=str(wsj0_mix), segment_seconds=0.5)
    item = data.training(RATE, TWO, 0)[1]
    torch.testing.assert_close(item.mixture, item.sources.sum(0), atol=1e-4, rtol=0)
    whole = data.validation(RATE, TWO, 0)
    assert [item.mixture.shape[0] for item in (whole[0], whole[1])] == [RATE, RATE]


def test_an_epoch_has_every_mixture_once(wsj0_mix):
    drawn = Wsj0MixData(root=str(wsj0_mix), segment_seconds=0.5).training(RATE, TWO, 0)
    names = [drawn[index].name.split(" from ")[0] for index in range(8)]
    assert all(len(set(names[start : start + 2])) == 2 for start in range(0, 8, 2))
    assert drawn[5].name == Wsj0MixData(root=str(wsj0_mix), segment_seconds=0.5).training(RATE, TWO, 0)[5].name


def test_a_wsj0_mixture_without_its_source_is_rejected(wsj0_mix):
    (wsj0_mix / "tr" / "s2" / "01ta1_0.6_40n_-0.6.wav").unlink()
    with pytest.raises(DataError, match=r"s2/01ta1_0\.6_40n_-0\.6\.wav: no such file, but the mixture .* needs it"):
        Wsj0MixData(root=str(wsj0_mix)).training(RATE, TWO, 0)
    with pytest.raises(DataError, match=r"s3: no such folder; make WSJ0-mix or WHAM! from WSJ0"):
        Wsj0MixData(root=str(wsj0_mix)).training(RATE, ("a", "b", "c"), 0)


def test_musdb(musdb):
    data = MusdbData(root=str(musdb), segment_seconds=0.2, channels=2)
    sources = ("vocals", "accompaniment")
    item = data.training(44100, sources, 0)[0]
    assert item.sources.shape == (2, 2, 8820) and item.mixture.shape == (2, 8820)
    torch.testing.assert_close(item.mixture, item.sources.sum(0), atol=1e-3, rtol=0)
    # One of the tracks that the musdb package uses for validation.
    assert [row.name for row in data.rows("valid", sources)] == ["James May - On The Line"]
    assert [row.name for row in data.rows("train", sources)] == ["A - One", "B - Two"]
    remixed = MusdbData(root=str(musdb), segment_seconds=0.2, channels=2, remix_share=1.0).training(44100, sources, 0)[
        0
    ]
    torch.testing.assert_close(remixed.mixture, remixed.sources.sum(0))
    assert " + " in remixed.name


def test_a_song_without_a_stem_and_unknown_sources_are_rejected(musdb):
    (musdb / "train" / "A - One" / "bass.wav").unlink()
    with pytest.raises(DataError, match=r"A - One: contains no bass\.wav"):
        MusdbData(root=str(musdb)).training(44100, ("vocals", "accompaniment"), 0)
    with pytest.raises(
        ConfigError, match=r"sources are a, b; for MUSDB they can be drums, bass, other, vocals, and one"
    ):
        MusdbData(root=str(musdb)).training(44100, ("a", "b"), 0)
    with pytest.raises(DataError, match=r"contains no tracks; download MUSDB18-HQ from https://zenodo"):
        MusdbData(root=str(musdb / "none")).training(44100, ("vocals", "accompaniment"), 0)


def test_songs_in_one_file_with_five_streams(tmp_path):
    av = pytest.importorskip("av")
    from fractions import Fraction

    path = tmp_path / "test" / "A - One.stem.mp4"
    path.parent.mkdir()
    tones = [440.0 * (number + 1) for number in range(5)]
    with av.open(str(path), "w", format="mp4") as container:
        streams = [container.add_stream("aac", rate=44100, layout="stereo") for _ in tones]
        for stream, tone in zip(streams, tones, strict=True):
            samples = 0.1 * np.sin(2 * np.pi * tone * np.arange(44100 * 2) / 44100).astype(np.float32)
            frame = av.AudioFrame.from_ndarray(np.stack([samples, samples]), format="fltp", layout="stereo")
            frame.rate, frame.pts, frame.time_base = 44100, 0, Fraction(1, 44100)
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    (row,) = musdb_rows(tmp_path, "test", MUSDB_STEMS)
    assert row.length() == pytest.approx(2.0, abs=0.1)
    parts = MixtureSet([row], 44100, 2)
    for number, stem in enumerate(MUSDB_STEMS, 1):
        samples = parts._read(row.sources[number - 1][0], 0.5, 1.0)
        assert samples.shape == (2, 44100)
        assert np.abs(np.fft.rfft(samples[0])).argmax() == pytest.approx(tones[number], abs=2), stem


def count(data, split):
    return len(data.corpus(split, RATE, 0).lengths(0))


def test_noise_of_wham(tmp_path):
    for split, number in (("tr", 3), ("cv", 2), ("tt", 1)):
        for file in range(number):
            write(tmp_path / "wham_noise" / split / f"{file}.wav", noise(file, channels=2))
    data = FolderNoise(root=str(tmp_path / "wham_noise"))
    assert [count(data, split) for split in ("train", "valid", "test")] == [3, 2, 1]
    shutil.rmtree(tmp_path / "wham_noise" / "tt")
    with pytest.raises(DataError, match=r"wham_noise: has no noise for test, only for train, valid"):
        data.corpus("test", RATE, 0)
    shutil.rmtree(tmp_path / "wham_noise" / "cv")
    with pytest.raises(DataError, match=r"wham_noise/valid: contains no audio"):
        data.corpus("train", RATE, 0)
    with pytest.raises(DataError, match=r"no such folder; it is here"):
        FolderNoise(root=str(tmp_path / "none"), source="it is here").corpus("train", RATE, 0)


@pytest.mark.parametrize(("files", "sizes"), [(10, [7, 2, 1]), (3, [1, 1, 1]), (2, [1, 1])])
def test_noise_in_a_folder_is_split_at_random(tmp_path, files, sizes):
    for number in range(files):
        write(tmp_path / "deep" / f"{number}.wav", noise(number))
    splits = split_files(tmp_path, 0, 0.2, 0.1)
    assert list(splits) == ["train", "valid", "test"][: len(sizes)]
    assert [len(paths) for paths in splits.values()] == sizes
    assert len({path for paths in splits.values() for path in paths}) == files
    data = FolderNoise(root=str(tmp_path), valid_fraction=0.2)
    assert [count(data, split) for split in splits] == sizes


def test_one_recording_of_noise_is_rejected(tmp_path):
    with pytest.raises(DataError, match="contains no audio, wanted at least 2"):
        split_files(tmp_path, 0, 0.1, 0.1)
    write(tmp_path / "a.wav", noise(0))
    with pytest.raises(DataError, match="has 1 audio file, wanted at least 2: one to train"):
        split_files(tmp_path, 0, 0.1, 0.1)


def test_dns(tmp_path):
    """Clean speech and noise are in folders. A mixture is one voice, and noise as the second source."""
    for number in range(4):
        write(tmp_path / "clean" / "read_speech" / f"book_{number}.wav", noise(number))
        write(tmp_path / "noise" / f"{number}.wav", noise(10 + number))
    data = config.build(composed("dns", f"data.root={tmp_path}", "data.mixing.segment_seconds=0.5"), "data")
    item = data.training(RATE, ("speech", "noise"), 0)[0]
    assert item.sources.shape == (2, RATE // 2) and torch.allclose(item.mixture, item.sources.sum(0))
    snr = 10 * torch.log10(item.sources[0].square().sum() / item.sources[1].square().sum())
    assert 0 <= float(snr) <= 20
    assert len(data.validation(RATE, ("speech", "noise"), 0)) == 60
    parts = [set(data.speakers(split)["speech"]) for split in ("train", "valid", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 4
    assert len(data.testing(RATE, ("speech", "noise"), 0)) == 60
    with pytest.raises(DataError, match=r"nothing: no such folder; the DNS challenge's recordings are at https"):
        DnsData(root=str(tmp_path), clean="nothing").corpus("train", RATE, 0)


def test_recordings_with_a_lower_rate_give_a_warning(tmp_path, caplog):
    for name in "ab":
        write(tmp_path / f"{name}.wav", noise(0), rate=4000)
    path = write_rows(tmp_path / "list.csv", [{"source_1": "a.wav", "source_2": "b.wav"}])
    MixtureSet(mixture_list(path, TWO), RATE)
    assert "2 of 2 recordings have a sample rate below the model's 8000 Hz, such as" in caplog.text
    assert "a.wav with 4000 Hz" in caplog.text


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_a_manifest_of_voices(tmp_path, form):
    rows = []
    for number in range(8):
        write(tmp_path / "audio" / f"{number}.wav", noise(number))
        rows.append(
            {"path": f"audio/{number}.wav", "speaker": f"s{number // 2}", "split": ("train", "valid")[number // 4]}
        )
    path = tmp_path / f"voices.{form}"
    path.write_text("\n".join(map(json.dumps, rows))) if form == "jsonl" else write_rows(path, rows)
    data = ManifestData(path=str(path), mixing=Mixing(segment_seconds=0.5))
    assert set(data.speakers("train")) == {"s0", "s1"} and set(data.speakers("valid")) == {"s2", "s3"}
    assert data.training(RATE, TWO, 0)[0].sources.shape == (2, RATE // 2)


def test_a_manifest_without_splits_is_split_at_random(tmp_path):
    for number in range(5):
        write(tmp_path / f"{number}.wav", noise(number))
    rows = [{"path": f"{number}.wav", "speaker": number} for number in range(5)]
    data = ManifestData(path=str(write_rows(tmp_path / "voices.csv", rows)))
    assert len(data.speakers("train")) == 3 and len(data.speakers("valid")) == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "gone.wav", "speaker": "a"}], r"voices\.csv entry 1: .*gone\.wav does not exist"),
        ([{"file": "a.wav", "speaker": "a"}], r"entry 1: needs the columns path, speaker; it has no path"),
        (
            [{"path": "a.wav", "speaker": "a", "split": "dev"}],
            r"entry 1: split must be one of train, valid, test, got 'd",
        ),
        (
            [{"path": "a.wav", "speaker": name, "split": split} for name, split in (("a", "train"), ("b", ""))],
            r"voices\.csv entry 2: split must be one of train, valid, test, got ''",
        ),
        (
            [{"path": "a.wav", "speaker": name, "split": "valid"} for name in "ab"],
            r"voices\.csv: has no speakers for train, only for valid",
        ),
        ([{"path": "a.wav", "speaker": "a"}], r"found 1 speaker \(a\), wanted at least 4"),
    ],
)
def test_the_error_for_a_manifest_names_the_entry(tmp_path, rows, message):
    write(tmp_path / "a.wav", noise(0))
    with pytest.raises(DataError, match=message):
        ManifestData(path=str(write_rows(tmp_path / "voices.csv", rows))).training(RATE, TWO, 0)


def test_a_list_of_mixtures_with_named_sources(tmp_path):
    speech, hiss = noise(1, 2.0), noise(2, 2.0)
    write(tmp_path / "mix.wav", speech + hiss)
    write(tmp_path / "speech.wav", speech)
    write(tmp_path / "noise.wav", hiss)
    rows = [
        {"mixture": "mix.wav", "source_noise": "noise.wav", "source_speech": "speech.wav", "split": "train"},
        {"mixture": "mix.wav", "source_noise": "noise.wav", "source_speech": "speech.wav", "split": "valid"},
    ]
    path = write_rows(tmp_path / "list.csv", rows)
    data = MixtureListData(train=str(path), valid=str(path), segment_seconds=0.5)
    item = data.training(RATE, ("speech", "noise"), 0)[0]
    whole = data.validation(RATE, ("speech", "noise"), 0)
    assert len(whole) == 1 and item.mixture.shape == (RATE // 2,)
    np.testing.assert_allclose(whole[0].sources[0], speech[:, 0], atol=1e-4)


def test_a_background_without_a_field_is_the_rest_of_the_mixture(tmp_path):
    voices, hiss = [noise(seed, 1.0) for seed in (1, 2)], noise(3, 1.0)
    for name, samples in (("a", voices[0]), ("b", voices[1]), ("mix", voices[0] + voices[1] + hiss)):
        write(tmp_path / f"{name}.wav", samples, subtype="FLOAT")
    sources = ("speaker1", "speaker2", "background")
    named = {"source_1": "a.wav", "source_2": "b.wav"}
    for extra, rest in (({"mixture": "mix.wav"}, hiss[:, 0]), ({}, 0 * hiss[:, 0])):
        rows = mixture_list(write_rows(tmp_path / "list.csv", [named | extra]), sources)
        item = MixtureSet(rows, RATE)[0]
        np.testing.assert_allclose(item.sources[2], rest, atol=1e-6)
        np.testing.assert_allclose(item.mixture, item.sources.sum(0), atol=1e-6)
    # A third speaker cannot be the rest.
    with pytest.raises(DataError, match="model with 3 sources needs source_1 and source_2 and source_3"):
        mixture_list(tmp_path / "list.csv", ("speaker1", "speaker2", "speaker3"))


def test_a_list_without_the_wanted_split_is_rejected(tmp_path):
    write(tmp_path / "a.wav", noise(0))
    path = write_rows(tmp_path / "list.csv", [{"source_1": "a.wav", "source_2": "a.wav", "split": "train"}])
    data = MixtureListData(train=str(path), valid=str(path))
    with pytest.raises(DataError, match=r"list\.csv: no entry has the split 'valid'"):
        data.validation(RATE, TWO, 0)


def test_the_error_for_sources_that_do_not_add_up_names_the_entry(tmp_path):
    for name in ("mix", "a", "b"):
        write(tmp_path / f"{name}.wav", noise(len(name) + ord(name[0])))
    rows = [{"mixture": "mix.wav", "source_1": "a.wav", "source_2": "b.wav"}]
    path = write_rows(tmp_path / "list.csv", rows)
    with pytest.raises(RecordingError, match=r"list\.csv entry 1: its sources do not add up to its mixture: .* 5 dB"):
        MixtureSet(mixture_list(path, TWO), RATE)[0]


def test_the_error_for_files_of_different_lengths_names_the_entry(tmp_path):
    write(tmp_path / "a.wav", noise(0))
    write(tmp_path / "b.wav", noise(0, 1.5))
    path = write_rows(tmp_path / "list.csv", [{"source_1": "a.wav", "source_2": "b.wav"}])
    with pytest.raises(RecordingError, match=r"entry 1: its files have different lengths \(1\.00 s, 1\.50 s\)"):
        MixtureSet(mixture_list(path, TWO), RATE)[0]


def test_a_wrong_number_of_channels_is_rejected(tmp_path):
    write(tmp_path / "a.wav", noise(0, channels=3))
    path = write_rows(tmp_path / "list.csv", [{"source_1": "a.wav", "source_2": "a.wav"}])
    with pytest.raises(RecordingError, match=r"a\.wav: has 3 channels, wanted 2 or 1"):
        MixtureSet(mixture_list(path, TWO), RATE, channels=2)[0]


@pytest.mark.parametrize(
    "group",
    ["dns", "folder", "generated", "librispeech", "manifest", "librimix", "wsj0_mix", "musdb", "mixture_list"],
)
def test_every_group_has_exactly_its_constructors_arguments(group):
    settings = composed(group, *(["data.root=x"] if group == "dns" else []))
    target = hydra.utils.get_object(settings.pop("_target_"))
    fields = {item.name for item in dataclasses.fields(target)}
    assert settings.keys() == fields - ({"noise", "rooms"} - settings.keys())
