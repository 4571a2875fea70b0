import numpy as np
import pytest

from separator import figures


def pixels(path):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    return pyplot.imread(path)


def test_curves_are_drawn_from_the_rows(tmp_path):
    empty = pixels(figures.draw_curves(tmp_path))
    steps = range(1, 101)
    (tmp_path / "train.csv").write_text("step,loss,learning_rate\n" + "".join(f"{n},{-n / 10},0.001\n" for n in steps))
    (tmp_path / "valid.csv").write_text("step,si_snri\n50,2.5\n100,4.5\n")
    drawn = pixels(figures.draw_curves(tmp_path))
    assert drawn.shape == empty.shape and np.abs(drawn - empty).sum() > 1000
    assert figures.read_columns(tmp_path / "valid.csv") == {"step": [50, 100], "si_snri": [2.5, 4.5]}


def test_spectrograms_show_sounding_tracks(tmp_path):
    time = np.arange(16000) / 16000
    tones = {"low": np.sin(2 * np.pi * 200 * time), "silence": np.zeros(16000)}
    image = pixels(figures.draw_spectrograms(tones, 16000, tmp_path / "picture.png"))[..., :3].sum(-1)
    half = image.shape[0] // 2
    rows = slice(40, half - 40)
    low, silence = image[rows, 200:700], image[half + 10 : half + half - 90, 200:700]
    assert low.max() > 2 and silence.max() < 1
