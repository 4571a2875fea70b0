import csv
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from separator import evaluate, objectives, separation
from separator.data import Mixture


class Oracle:
    """Gives the references, the other way round and with a little noise."""

    sample_rate = 8000

    def __init__(self, item, noise):
        self.sources = item.sources.flip(0) + noise * torch.randn_like(item.sources)

    def separate(self, waveform, sample_rate):
        return {"a": self.sources[0], "b": self.sources[1]}


def make_mixture(two_voices):
    return Mixture.of(two_voices[:, ::2].copy(), 8000, "one", 0.9)


def test_a_row_is_measured_under_the_best_permutation(two_voices):
    item = make_mixture(two_voices)
    row = evaluate._row(Oracle(item, 0.003), item)
    expected = objectives.si_snr(Oracle(item, 0.003).sources.flip(0), item.sources).mean()
    assert row["si_snr"] == pytest.approx(float(expected), abs=0.3) and row["si_snr"] > 15
    before = float(objectives.si_snr(item.mixture.expand_as(item.sources), item.sources).mean())
    assert row["si_snri"] == pytest.approx(row["si_snr"] - before, abs=1e-5)
    assert row["id"] == "one" and row["seconds"] == 3.0


def test_sdr_equals_fast_bss_eval(two_voices):
    peer = pytest.importorskip("fast_bss_eval")
    item = make_mixture(two_voices)
    oracle = Oracle(item, 0.01)
    row = evaluate._row(oracle, item)
    references = item.sources.double().numpy()
    after = peer.bss_eval_sources(references, oracle.sources.double().numpy(), compute_permutation=True)[0].mean()
    before = peer.sdr(references, np.stack([item.mixture.double().numpy()] * 2)).mean()
    assert row["sdr"] == pytest.approx(float(after), abs=0.05)
    assert row["sdri"] == pytest.approx(float(after - before), abs=0.05)


def test_the_summary_is_mean_median_and_confidence():
    rows = [{"si_snri": value, "sdri": 2 * value} for value in (1.0, 2.0, 6.0, 7.0)]
    summary = evaluate.summarize(rows)["si_snri"]
    assert summary["mean"] == 4 and summary["median"] in (2, 6)
    assert summary["confidence"] == pytest.approx(1.96 * np.std([1, 2, 6, 7], ddof=1) / 2)
    assert math.isnan(evaluate.summarize(rows[:1])["si_snri"]["confidence"])


@pytest.fixture
def listed(tmp_path, two_voices):
    for name, samples in zip("ab", two_voices, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
    (tmp_path / "list.csv").write_text(
        "id,source_1,start_1,gain_1_db,source_2,start_2,gain_2_db,duration\n"
        "first,a.wav,0,0,b.wav,0,-3,2\nsecond,a.wav,1,0,b.wav,0.5,3,2\n"
    )
    return tmp_path / "list.csv"


def run(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "separator.evaluate", *arguments], capture_output=True, text=True, cwd=folder
    )


def test_the_command_prints_a_summary_and_writes_a_row_for_each_mixture(tmp_path, listed, tiny_checkpoint):
    done = run(tmp_path, f"model={tiny_checkpoint}", "data.list=list.csv", "out=result")
    assert done.returncode == 0, done.stderr
    assert "2 mixtures" in done.stdout and "SI-SNRi" in done.stdout and "SDRi" in done.stdout
    with (tmp_path / "result" / "mixtures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["first", "second"]
    summary = json.loads((tmp_path / "result" / "summary.json").read_text())
    assert summary["mixtures"] == 2
    assert summary["si_snri"]["mean"] == pytest.approx(np.mean([float(row["si_snri"]) for row in rows]), abs=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "list.csv", "result"]


def test_generated_mixtures_need_no_list(tmp_path, tiny_checkpoint):
    done = run(tmp_path, f"model={tiny_checkpoint}", "data.generated_mixtures=2")
    assert done.returncode == 0 and "generated voices, 2 mixtures" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=defalt"], "unknown model 'defalt'"),
        (["data.list=none.csv"], "none.csv: cannot be read as a list"),
        (["data.lst=none.csv"], "lst"),
        (["+metric=pesq"], "no setting 'metric'"),
        (["device=gpu"], "device 'gpu'"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(tmp_path, tiny_checkpoint, arguments, message):
    model = [] if arguments[0].startswith("model") else [f"model={tiny_checkpoint}"]
    done = run(tmp_path, *model, *arguments)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and done.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_real_voices_if_they_are_there():
    """The lists of the shared voices are read as they are."""
    from pathlib import Path

    path = Path(__file__).resolve().parents[2] / "shared" / "voices" / "test_mixtures.csv"
    if not path.exists():
        pytest.skip("the shared voices are not here")
    from separator.data import MixtureSet
    from separator.data.layouts import mixture_list

    items = MixtureSet(mixture_list(path, ("a", "b")), 16000)
    assert len(items) == 100 and items[0].mixture.shape == (8 * 16000,)
    assert isinstance(separation.SEGMENT_SECONDS, float)
