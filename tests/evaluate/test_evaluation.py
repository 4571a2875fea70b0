import base64
import csv
import html
import io
import itertools
import json
import math
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
import torch
import trees
from conftest import TINY

import separator
from separator import objectives
from separator.data import GeneratedData, Mixture
from separator.errors import ConfigError
from separator.evaluate import evaluation, report_page, statistics
from separator.inference import separation


class Oracle:
    """Returns the references in reverse order and with a little noise."""

    sample_rate = 8000
    num_interchangeable = 2
    sources = ("speaker1", "speaker2")

    def __init__(self, item, noise):
        self.estimate = item.sources.flip(0) + noise * torch.randn_like(item.sources)

    def separate(self, waveform, sample_rate):
        return dict(zip(self.sources, self.estimate, strict=True))


def make_mixture(two_voices):
    return Mixture.of(two_voices[:, ::2].copy(), 8000, "one", 0.9)


def test_a_row_is_measured_under_the_best_permutation(two_voices):
    item = make_mixture(two_voices)
    oracle = Oracle(item, 0.003)
    (row,) = evaluation.evaluate(oracle, [item])
    expected = objectives.si_snr(oracle.estimate.flip(0), item.sources)
    assert row["si_snr"] == pytest.approx(float(expected.mean()), abs=1e-3) and row["si_snr"] > 15
    before = objectives.si_snr(item.mixture.expand_as(item.sources), item.sources)
    assert row["si_snri"] == pytest.approx(row["si_snr"] - float(before.mean()), abs=1e-3)
    assert row["mixture_si_snr"] == pytest.approx(float(before.mean()), abs=1e-3)
    assert row["si_snri_2"] == pytest.approx(float(expected[1] - before[1]), abs=1e-3)
    assert row["id"] == "one" and row["seconds"] == 3.0 and row["sources"] == 2
    energies = item.sources.square().sum(-1)
    assert row["level_difference_db"] == pytest.approx(
        float(10 * torch.log10(energies.max() / energies.min())), abs=1e-3
    )


def test_the_warning_names_silent_stems(two_voices, caplog):
    item = make_mixture(two_voices)
    oracle = Oracle(item, 0.003)
    oracle.model = "oracle"
    good = evaluation.evaluate(oracle, [item])
    evaluation._warn_of_silence(oracle, good)
    assert not caplog.records and good[0]["silent_stems"] == ""
    oracle.estimate[1] = 0
    rows = evaluation.evaluate(oracle, [item])
    assert rows[0]["silent_stems"] == "speaker1" and rows[0]["si_snri_1"] < -70 < 10 < rows[0]["si_snri_2"]
    evaluation._warn_of_silence(oracle, [*rows, *good])
    assert (
        "oracle: 1 of 2 mixtures have silent stems for sources that are not silent; each counts as -80 dB: one (spea"
        in caplog.text
    )


def test_named_sources_keep_their_order(two_voices):
    item = make_mixture(two_voices)
    oracle = Oracle(item, 0.003)
    oracle.num_interchangeable, oracle.sources = 0, ("speech", "noise")
    (row,) = evaluation.evaluate(oracle, [item])
    assert row["si_snri"] < -10 and row["si_snri_speech"] < -10
    oracle.estimate = oracle.estimate.flip(0)
    assert evaluation.evaluate(oracle, [item])[0]["si_snri_noise"] > 10


def test_a_single_voice_has_no_improvement(two_voices):
    voice = torch.from_numpy(two_voices[0])
    item = Mixture(voice, torch.stack([voice, torch.zeros_like(voice)]), 16000, "alone")
    oracle = Oracle(item, 0.001)
    (row,) = evaluation.evaluate(oracle, [item], with_bounds=True)
    assert math.isnan(row["si_snri"]) and row["si_snr"] > 20 and row["sources"] == 1
    assert row["silent_db"] < -20 and "ibm_si_snri" not in row
    assert "nan" not in evaluation.to_csv([row])


@pytest.fixture
def listed(tmp_path, two_voices):
    for name, samples in zip("ab", two_voices, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", samples, 16000)
    (tmp_path / "list.csv").write_text(
        "id,source_1,start_1,gain_1_db,source_2,start_2,gain_2_db,duration\n"
        "first,a.wav,0,0,b.wav,0,-3,2\nsecond,a.wav,1,0,b.wav,0.5,3,2\n"
    )
    return tmp_path / "list.csv"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run the command in this process: a new process would need more time for its imports than for the evaluation."""

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["separator.evaluate", *arguments])
        evaluation.main()
        return capsys.readouterr().out

    return run


def test_the_command_prints_a_summary_and_writes_a_row_for_each_mixture(tmp_path, run, listed, tiny_checkpoint):
    output = run(f"model={tiny_checkpoint}", "data.list=list.csv", "out=result")
    assert "2 mixtures" in output and "SI-SNRi" in output and "SDRi" in output
    with (tmp_path / "result" / "mixtures.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["first", "second"]
    assert all(float(row["ibm_si_snri"]) > 5 and float(row["stoi"]) < 1 for row in rows)
    facts = json.loads((tmp_path / "result" / "summary.json").read_text())
    assert [group["mixtures"] for group in facts["by_seconds"]] == [2]
    assert facts["mixtures"] == 2
    assert facts["si_snri"]["mean"] == pytest.approx(np.mean([float(row["si_snri"]) for row in rows]), abs=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav", "list.csv", "result"]


def test_the_report_is_one_self_contained_page(tmp_path, run, listed, tiny_checkpoint, causal_checkpoint):
    output = run(f"model={tiny_checkpoint}", f"baseline={causal_checkpoint}", "data.list=list.csv", "--report")
    page = (tmp_path / "runs" / "evaluation" / "report.html").read_text()

    class Links(HTMLParser):
        found, tags = [], []

        def handle_starttag(self, tag, attributes):
            self.tags.append(tag)
            self.found += [value for name, value in attributes if name in ("src", "href")]

    links = Links()
    links.feed(page)
    assert page.count('class="track"') == 2 * 5 and links.tags.count("img") == 2 * 5 + 1
    assert all(link.startswith("data:") for link in links.found)
    (first, *_) = re.findall(r'data-player="([^"]*)"', page)
    (audio,) = json.loads(html.unescape(first))["tracks"][0]["pieces"]
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(audio)))
    assert rate == 8000 and len(samples) == 2 * 8000
    for text in (
        "The best",
        "The worst",
        "ideal ratio mask",
        "SDRi",
        "Compared with",
        "By level difference",
        "By duration",
    ):
        assert text in page
    assert "better on" in output
    assert {"baseline.csv", "mixtures.csv", "summary.json"} < {
        path.name for path in (tmp_path / "runs" / "evaluation").iterdir()
    }
    # The next evaluation removes the files of this one.
    output = run(f"model={tiny_checkpoint}", "data.list=list.csv", "measures=[]", "bounds=false", "limit=1")
    assert "nan" not in output
    left = {path.name for path in (tmp_path / "runs" / "evaluation").iterdir()}
    assert left == {"mixtures.csv", "summary.json"}


def test_the_page_escapes_names(two_voices):
    item = Mixture.of(two_voices, 16000, "<script>alert(1)</script>", 0.9)
    rows = evaluation.evaluate(Oracle(item, 0.01), [item])
    facts = {"model": "a<b", "data": "c&d", "mixtures": 1, "named_sources": [], **statistics.summarize(rows)}
    facts |= {f"by_{column}": statistics.grouped(rows, column, edges) for column, edges in statistics.GROUPS.items()}
    page = report_page.make(facts, rows, [item], lambda item: item.sources, ("x", "y"))
    assert "<script>alert" not in page and "a&lt;b" in page and "c&amp;d" in page


def test_generated_mixtures_need_no_list(tmp_path, run, tiny_checkpoint):
    output = run(f"model={tiny_checkpoint}", "data.generated_mixtures=2", "measures=[]", "bounds=false")
    assert "generated voices, 2 mixtures" in output
    assert "STOI" not in output and "ideal" not in output
    once = json.loads((tmp_path / "runs/evaluation/summary.json").read_text())
    settings = ["data.generated_mixtures=2", "measures=[]", "bounds=false", "shifts=2"]
    output = run(f"model={tiny_checkpoint}", *settings)
    assert "generated voices in 2 shifts, 2 mixtures" in output
    twice = json.loads((tmp_path / "runs/evaluation/summary.json").read_text())
    assert twice["si_snri"]["mean"] != once["si_snri"]["mean"] and twice["weights"] == once["weights"]


def test_the_test_set_of_a_recipe(tmp_path):
    data = evaluation.EvaluationData(recipe="speech_enhancement", generated_mixtures=3)
    mixtures = data.mixtures(8000, ("speech", "noise"))
    assert len(mixtures) == 3 and mixtures[0].sources.shape == (2, 6 * 8000)
    root = trees.librimix(tmp_path, 8000, "test")
    data = evaluation.EvaluationData(recipe="libri2mix_8k", root=str(root), overrides=["data.task=sep_noisy"])
    assert len(data.mixtures(8000, ("speaker1", "speaker2"))) == 3
    with pytest.raises(ConfigError, match=r"there is no recipe 'libri3mix'; choose from .*did you mean 'libri2mix_8k'"):
        evaluation.EvaluationData(recipe="libri3mix").mixtures(8000, ("speaker1", "speaker2"))


def test_test_and_validation_mixtures_differ():
    """In a run with the same seed, both the voices and the draws differ."""
    data = GeneratedData(valid_mixtures=2)
    tests, valid = (getattr(data, name)(8000, ("a", "b"), 0) for name in ("testing", "validation"))
    train = data.training(8000, ("a", "b"), 0)
    first = [tests[0].mixture, valid[0].mixture, train[0].mixture]
    assert not any(torch.equal(one[:8000], other[:8000]) for one, other in itertools.combinations(first, 2))
    voices = [
        corpus.read(0, 0, 0, 8000)
        for corpus in (tests.mixtures.corpora[0], valid.mixtures.corpora[0], train.corpora[0])
    ]
    assert not any(np.allclose(one, other) for one, other in itertools.combinations(voices, 2))


def test_models_with_different_sources_cannot_be_compared(tmp_path, run, listed, tiny_checkpoint):
    torch.manual_seed(0)
    separator.save(separator.ConvTasNet(sample_rate=8000, sources=("a", "b"), **TINY), tmp_path / "other.safetensors")
    with pytest.raises(SystemExit, match=r"separates a, b at 8000 Hz, but model="):
        run(f"model={tiny_checkpoint}", "baseline=other.safetensors", "data.list=list.csv")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=defalt"], "unknown model 'defalt'"),
        (["data.list=none.csv"], "none.csv: cannot be read as a list"),
        (["data.lst=none.csv"], "lst"),
        (["+metric=pesq"], "no setting 'metric'"),
        (["measures=[pesk]"], "unknown measure 'pesk'"),
        (["data.list=a.csv", "data.recipe=two_speakers"], "give only one of them"),
        (["data.recipe=libri2mix_8k"], "data.root has no value"),
        (["data.recipe=three_speakers"], "recipe three_speakers separates 3 sources, but the model separates 2"),
        (["data.root=x"], "are only for a recipe: give data.recipe too"),
        (["data.adds_up=false"], "data.adds_up=false is only for a list: give data.list too"),
        (["data.list=a.csv", "data.adds_up=maybe"], "data.adds_up must be true or false, got 'maybe'"),
        (["limit=0"], "limit must be a whole number of at least 1, got 0"),
        (["device=gpu"], "device 'gpu'"),
    ],
)
def test_an_error_of_the_command_is_one_line(tmp_path, tiny_checkpoint, arguments, message, monkeypatch):
    model = [] if arguments[0].startswith("model") else [f"model={tiny_checkpoint}"]
    monkeypatch.setattr(sys, "argv", ["separator.evaluate", *model, *arguments])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        evaluation.main()
    text = ended.value.code  # Python prints it, and exits with 1
    assert text.startswith("error: ") and message in text and "\n" not in text
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_real_voices_if_available():
    """The list of the shared voices can be read without changes."""
    from pathlib import Path

    path = Path(__file__).resolve().parents[3] / "shared" / "voices" / "test_mixtures.csv"
    if not path.exists():
        pytest.skip("the shared voices are not available")
    from separator.data import MixtureSet
    from separator.data.lists import mixture_list

    items = MixtureSet(mixture_list(path, ("a", "b")), 16000)
    assert len(items) == 100 and items[0].mixture.shape == (8 * 16000,)
    assert isinstance(separation.SEGMENT_SECONDS, float)
