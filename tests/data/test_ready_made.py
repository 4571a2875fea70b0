import csv
import json

import numpy as np
import pytest
import soundfile
import torch

from separator.data import Excerpts, MixtureSet
from separator.data.lists import mixture_list
from separator.data.recordings import RecordingError
from separator.errors import DataError

RATE = 8000
TWO = ("speaker1", "speaker2")
BOTH = {"source_1": "a.wav", "source_2": "b.flac"}


@pytest.fixture
def listed(tmp_path):
    """A list of two mixtures of two files. One file has another sample rate."""
    generator = np.random.default_rng(0)
    for name, rate in (("a.wav", RATE), ("b.flac", 2 * RATE)):
        soundfile.write(tmp_path / name, 0.1 * generator.standard_normal(3 * rate), rate)
    header = ["id", "source_1", "start_1", "gain_1_db", "source_2", "start_2", "gain_2_db", "duration"]
    rows = [["one", "a.wav", 0.5, 0, "b.flac", 1, -6, 1.5], ["two", "b.flac", 0, 3, "a.wav", 0, 0, 3]]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path / "list.csv"


def test_starts_lengths_and_gains_of_a_list_are_applied(listed):
    items = MixtureSet(mixture_list(listed, TWO), RATE)
    assert len(items) == 2 and items.num_sources == 2
    one, two = items[0], items[1]
    assert one.mixture.shape == (1.5 * RATE,) and two.mixture.shape == (3 * RATE,)
    assert float(one.mixture.abs().max()) == pytest.approx(0.9, abs=1e-4)
    levels = 10 * torch.log10(one.sources.square().mean(-1))
    assert float(levels[0] - levels[1]) == pytest.approx(6, abs=0.01)
    torch.testing.assert_close(one.mixture, one.sources.sum(0))
    start, _ = soundfile.read(listed.parent / "a.wav", start=RATE // 2, frames=12000, dtype="float32")
    correlation = np.corrcoef(start, one.sources[0].numpy())[0, 1]
    assert correlation > 0.9999


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.wav", "gone.wav", r"list\.csv entry 1: .*gone\.wav does not exist"),
        ("0.5", "2.5", r"list\.csv entry 1 \(one\): .*a\.wav ends 1\.00 s too early"),
        ("0.5", "soon", r"entry 1 \(one\): start_1 must be a number of at least 0, got 'soon'"),
        ("0.5", "-2", r"entry 1 \(one\): start_1 must be a number of at least 0, got '-2'"),
        ("1.5", "nan", r"entry 1 \(one\): duration must be a number of at least 0.001, got 'nan'"),
        ("-6", "inf", r"entry 1 \(one\): gain_2_db must be a number, got 'inf'"),
        ("start_1", "begin_1", r"unknown field 'begin_1'; the fields of a list of mixtures are id, .*start_1"),
    ],
)
def test_the_error_for_a_list_names_the_entry(listed, old, new, message):
    listed.write_text(listed.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        MixtureSet(mixture_list(listed, TWO), RATE)[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"source_1": "a.wav", "sorce_2": "b.flac"}, "unknown field 'sorce_2'; .*did you mean 'source_2'"),
        (BOTH | {"gian_1_db": 3}, "unknown field 'gian_1_db'; .*did you mean 'gain_1_db'"),
        (
            {"source_1": "a.wav"},
            "has the fields id, source_1, but a model with 2 sources needs source_1 and source_2; leave the field of a",
        ),
        (BOTH | {"source_3": "a.wav"}, "a model with 2 sources needs source_1 and source_2;"),
        (BOTH | {"split": "vaild"}, "split must be one of train, valid, test, got 'vaild'"),
    ],
)
def test_every_row_of_a_list_is_checked(listed, row, message):
    """Without the check, a source with a misspelt field in a later row would be silent or left out."""
    good = BOTH | {"duration": 1}
    path = listed.with_suffix(".jsonl")
    path.write_text("\n".join(json.dumps(item) for item in (good, good | {"gain_1_db": 3}, {"id": "c"} | row)))
    with pytest.raises(DataError, match=rf"list\.jsonl entry 3 \(c\): .*{message}"):
        mixture_list(path, TWO, "train")
    # An empty source is silent. A row need not have all the fields of another row.
    path.write_text("\n".join(json.dumps(item) for item in (good, good | {"source_2": None}, good | {"start_1": 1})))
    assert [len(parts) for parts in mixture_list(path, TWO)[1].sources] == [1, 0]


def test_the_error_for_a_row_that_is_too_long_or_not_json_names_the_entry(listed):
    listed.write_text("source_1,source_2\na.wav,b.flac\na.wav,b.flac,a.wav\n")
    with pytest.raises(
        DataError, match=r"list\.csv entry 2: has more cells than the header has columns, the first is 'a"
    ):
        mixture_list(listed, TWO)
    path = listed.with_suffix(".jsonl")
    path.write_text('{"source_1": "a.wav", "source_2": "b.flac"}\n\n{"source_1": "a.wav",}\n')
    with pytest.raises(DataError, match=r"list\.jsonl entry 2: is not JSON \(.* at character 22\)"):
        mixture_list(path, TWO)


@pytest.fixture
def noisy(tmp_path):
    """Two sources and a noise, `[signal, time]`, half a second each, in the files a, b and n. Also writes their sum."""
    signals = 0.1 * np.random.default_rng(5).standard_normal((3, RATE // 2)).astype(np.float32)
    for name, samples in (*zip("abn", signals, strict=True), ("sum", signals.sum(0)), ("half", signals[:2].sum(0) / 2)):
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, "FLOAT")
    return signals


def one(folder, header, row, sources=TWO, **options):
    (folder / "one.csv").write_text(f"{header}\n{row}\n")
    return MixtureSet(mixture_list(folder / "one.csv", sources, **options), RATE)[0]


def test_noise_in_a_list_is_in_the_mixture_but_is_not_a_source(tmp_path, noisy):
    given = one(tmp_path, "mixture,source_1,source_2,noise", "sum.wav,a.wav,b.wav,n.wav")
    added = one(tmp_path, "source_1,source_2,noise", "a.wav,b.wav,n.wav")
    for item in (given, added):
        np.testing.assert_allclose(item.sources, noisy[:2], atol=1e-6)
        np.testing.assert_allclose(item.mixture, noisy.sum(0), atol=1e-6)
    header = "source_1,source_2,noise,start_noise,gain_1_db,gain_2_db,gain_noise_db,duration"
    item = one(tmp_path, header, "a.wav,b.wav,n.wav,0.25,0,0,-6,0.25")
    rest = item.mixture - item.sources.sum(0)
    level = 10 * torch.log10(rest.square().mean() / item.sources[0].square().mean())
    assert float(level) == pytest.approx(-6, abs=0.01)
    assert float(item.mixture.abs().max()) == pytest.approx(0.9, abs=1e-4)
    assert np.corrcoef(rest, noisy[2, RATE // 4 :])[0, 1] > 0.999
    # A background without a field is the rest of the mixture.
    three = one(tmp_path, "source_1,source_2,noise", "a.wav,b.wav,n.wav", ("speaker1", "speaker2", "background"))
    np.testing.assert_allclose(three.sources, noisy, atol=1e-6)


def test_mixtures_that_are_not_the_sum_are_accepted_with_adds_up_false(tmp_path, noisy):
    header = "mixture,source_1,source_2"
    for name in ("sum", "half"):
        with pytest.raises(
            RecordingError, match=r"entry 1: .*do not add up .*; give everything else .* a column noise$"
        ):
            one(tmp_path, header, f"{name}.wav,a.wav,b.wav")
        with pytest.raises(RecordingError, match=r"in a column noise, or set data\.adds_up=false to accept noise"):
            one(tmp_path, header, f"{name}.wav,a.wav,b.wav", adds_up=True)
    item = one(tmp_path, header, "sum.wav,a.wav,b.wav", adds_up=False)
    np.testing.assert_allclose(item.sources, noisy[:2], atol=1e-6)
    np.testing.assert_allclose(item.mixture, noisy.sum(0), atol=1e-6)
    item = one(tmp_path, header, "half.wav,a.wav,b.wav", adds_up=False)
    np.testing.assert_allclose(item.sources, noisy[:2] / 2, atol=1e-4)
    with pytest.raises(
        RecordingError, match="entry 1: its mixture contains almost nothing of its sources; give files that belong"
    ):
        one(tmp_path, header, "n.wav,a.wav,b.wav", adds_up=False)


def test_a_missing_list_and_an_empty_list_are_rejected(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        mixture_list(tmp_path / "none.csv", TWO)
    path = tmp_path / "empty.csv"
    path.write_text("id,source_1,start_1,gain_1_db,source_2,start_2,gain_2_db,duration\n")
    with pytest.raises(DataError, match="has no entries"):
        mixture_list(path, TWO)


def many(folder, count=12):
    """A list of short mixtures."""
    generator = np.random.default_rng(0)
    lines = ["source_1,source_2"]
    for number in range(count):
        for source in "ab":
            soundfile.write(folder / f"{source}{number}.wav", 0.1 * generator.standard_normal(RATE), RATE)
        lines.append(f"a{number}.wav,b{number}.wav")
    (folder / "many.csv").write_text("\n".join(lines) + "\n")
    return MixtureSet(mixture_list(folder / "many.csv", TWO), RATE)


def test_a_file_that_becomes_corrupt_during_an_epoch_is_skipped(tmp_path):
    drawn = Excerpts(many(tmp_path), 0.5, seed=0)
    whole = [drawn[index] for index in range(12)]
    (tmp_path / "b3.wav").write_bytes(b"no longer audio")
    again = [drawn[index] for index in range(12)]
    hit = [index for index in range(12) if again[index].skipped]
    assert len(hit) >= 1 and all(item.mixture.shape == (RATE // 2,) for item in again)
    for index in hit:
        (text,) = again[index].skipped
        assert "many.csv entry 4" in text and "b3.wav: cannot be read as audio" in text
    for index in set(range(12)) - set(hit):
        assert torch.equal(again[index].mixture, whole[index].mixture)
    assert torch.equal(again[hit[0]].mixture, drawn[hit[0]].mixture)  # the replacement is always the same


def test_drawing_fails_if_no_file_can_be_read(tmp_path):
    drawn = Excerpts(many(tmp_path, 3), 0.5, seed=0)
    for path in tmp_path.glob("a*.wav"):
        path.write_bytes(b"no longer audio")
    with pytest.raises(DataError, match=r"20 corrupt mixtures in a row, the last one: .*a\d\.wav"):
        drawn[0]


def test_too_many_corrupt_files_at_the_start_are_an_error_and_few_are_listed(tmp_path):
    mixtures = many(tmp_path)
    (tmp_path / "a0.wav").write_bytes(b"no longer audio")
    drawn = Excerpts(mixtures, 0.5, seed=0)
    assert len(drawn.rows) == 11 and "many.csv entry 1" in drawn.skipped[0]
    (tmp_path / "a1.wav").write_bytes(b"no longer audio")
    with pytest.raises(DataError, match=r"2 of 12 mixtures cannot be used; the first: .*entry 1"):
        Excerpts(mixtures, 0.5, seed=0)
