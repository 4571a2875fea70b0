import csv

import numpy as np
import pytest
import soundfile
import torch

from separator.data import MixtureSet
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
        ("0.5", "soon", r"entry 1: start_1 must be a number, got 'soon'"),
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
