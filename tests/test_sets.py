import csv

import numpy as np
import pytest
import soundfile
import torch

from separator.data import Excerpts, MixtureSet
from separator.data.layouts import mixture_list
from separator.errors import DataError

RATE = 8000
TWO = ("speaker1", "speaker2")


@pytest.fixture
def listed(tmp_path):
    """A list of two mixtures of two files, one of them at another rate."""
    generator = np.random.default_rng(0)
    for name, rate in (("a.wav", RATE), ("b.flac", 2 * RATE)):
        soundfile.write(tmp_path / name, 0.1 * generator.standard_normal(3 * rate), rate)
    header = ["id", "source_1", "start_1", "gain_1_db", "source_2", "start_2", "gain_2_db", "duration"]
    rows = [["one", "a.wav", 0.5, 0, "b.flac", 1, -6, 1.5], ["two", "b.flac", 0, 3, "a.wav", 0, 0, 3]]
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path / "list.csv"


def test_a_list_gives_its_starts_lengths_and_gains(listed):
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
        ("start_1", "begin_1", r"has no field 'begin_1'; there are id, .*start_1"),
    ],
)
def test_a_faulty_list_names_the_row(listed, old, new, message):
    listed.write_text(listed.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        MixtureSet(mixture_list(listed, TWO), RATE)[0]


def test_no_list_and_an_empty_list_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        mixture_list(tmp_path / "none.csv", TWO)
    path = tmp_path / "empty.csv"
    path.write_text("id,source_1,start_1,gain_1_db,source_2,start_2,gain_2_db,duration\n")
    with pytest.raises(DataError, match="lists nothing"):
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


def test_a_file_that_breaks_in_the_middle_of_an_epoch_is_passed_over(tmp_path):
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
    assert torch.equal(again[hit[0]].mixture, drawn[hit[0]].mixture)  # what comes in its place is always the same


def test_when_nothing_can_be_read_it_ends(tmp_path):
    drawn = Excerpts(many(tmp_path, 3), 0.5, seed=0)
    for path in tmp_path.glob("a*.wav"):
        path.write_bytes(b"no longer audio")
    with pytest.raises(DataError, match=r"20 corrupt mixtures one after the other, the last one: .*a\d\.wav"):
        drawn[0]


def test_too_many_broken_files_at_the_start_are_refused_and_few_are_listed(tmp_path):
    mixtures = many(tmp_path)
    (tmp_path / "a0.wav").write_bytes(b"no longer audio")
    drawn = Excerpts(mixtures, 0.5, seed=0)
    assert len(drawn.rows) == 11 and "many.csv entry 1" in drawn.skipped[0]
    (tmp_path / "a1.wav").write_bytes(b"no longer audio")
    with pytest.raises(DataError, match=r"2 of 12 mixtures cannot be used; first .*entry 1"):
        Excerpts(mixtures, 0.5, seed=0)
