import json
import re

import pytest
import torch
import yaml
from conftest import TINY
from peers import AsteroidConvTasNet, perturbed

import separator
from separator.errors import CheckpointError, ConfigError
from separator.zoo import checkpoint, publish

SUMMARY = {
    "model": "tiny",
    "data": "/home/me/test.csv",
    "mixtures": 12,
    "si_snri": {"mean": 7.1234, "confidence": 0.5, "median": 7.5, "count": 12},
    "stoi": {"mean": 0.81, "confidence": None, "median": 0.82, "count": 1},
}


@pytest.fixture
def evaluation(tmp_path, tiny_checkpoint):
    folder = tmp_path / "evaluation"
    folder.mkdir()
    weights = checkpoint.fingerprint(separator.load(tiny_checkpoint))
    (folder / "summary.json").write_text(json.dumps(SUMMARY | {"weights": weights}))
    return folder


def test_a_published_model_can_be_loaded(tiny_checkpoint, evaluation, tmp_path):
    paths = publish.publish(tiny_checkpoint, tmp_path / "out", evaluation, licence="cc-by-4.0")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(publish.FILES)
    assert {path.name for path in paths} == set(publish.FILES)
    mixture = torch.randn(1, 2000)
    expected = separator.load(tiny_checkpoint)(mixture)
    torch.testing.assert_close(separator.load(tmp_path / "out")(mixture), expected)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == checkpoint.read_facts(tmp_path / "out" / "model.safetensors")
    assert config["training"]["licence"] == "cc-by-4.0" and config["training"]["evaluation"]["si_snri"] == 7.12


def test_the_card_has_the_facts_of_checkpoint_and_evaluation(tiny_checkpoint, evaluation, tmp_path):
    publish.publish(tiny_checkpoint, tmp_path / "out", evaluation, licence="cc-by-4.0", repository="me/tiny")
    text = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["license"] == "cc-by-4.0" and front["library_name"] == "separator"
    for part in (
        "2 speakers at 8000 Hz",
        "separate mix.wav -m hf:me/tiny",
        "| SI-SNRi | 7.12 +- 0.50 dB | 7.50 dB |",
        "12 mixtures of test.csv",
        "num_filters: ",
    ):
        assert part in text
    assert "\n\n\n" not in text


def test_the_card_has_training_facts_without_local_paths(tiny_checkpoint, tmp_path):
    net = separator.load(tiny_checkpoint)
    lists = ["C:\\home/me\\b.csv", "~/home/me/c.csv", "file:///home/me/d.csv", "lists/e.csv"]
    settings = {"data": {"root": "/home/me/voices", "lists": lists}, "seed": 3, "start_from": "hf:someone/tiny"}
    data = "Speech and/or noise, see https://example.org/voices."
    facts = {"step": 12000, "minutes": 90.0, "valid_si_snri": 5.25, "data": data, "settings": settings}
    separator.save(net, tmp_path / "best.safetensors", facts)
    publish.publish(tmp_path, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "12,000 steps, 1.5 hours; SI-SNRi on its validation mixtures 5.25 dB." in text
    assert "root: voices" in text and "seed: 3" in text and "Not evaluated" in text
    # Only absolute paths are changed.
    assert data in text and "start_from: hf:someone/tiny" in text
    assert all(f"- {name}\n" in text for name in ("b.csv", "c.csv", "d.csv", "lists/e.csv"))
    for name in publish.FILES:
        assert b"home/me" not in (tmp_path / "out" / name).read_bytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_can_be_stored_in_half_precision(tiny_checkpoint, tmp_path, dtype):
    publish.publish(tiny_checkpoint, tmp_path / "whole")
    publish.publish(tiny_checkpoint, tmp_path / "half", dtype=dtype)
    mixture = torch.randn(1, 4000)
    net, half = separator.load(tmp_path / "whole"), separator.load(tmp_path / "half")
    assert all(value.dtype is torch.float32 for value in half.parameters())
    assert separator.si_snr(half(mixture), net(mixture)).min() > 30
    weights = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert weights[1] < 0.75 * weights[0]


def test_a_model_of_another_project_can_be_published_as_ours(tmp_path):
    theirs = perturbed(AsteroidConvTasNet())
    torch.save(theirs.file(), tmp_path / "pytorch_model.bin")
    publish.publish(tmp_path / "pytorch_model.bin", tmp_path / "out")
    mixture = torch.randn(1, 1600)
    with torch.no_grad():
        torch.testing.assert_close(separator.load(tmp_path / "out")(mixture), theirs(mixture), rtol=0, atol=1e-4)
    assert (
        "Not trained with separator: converted from pytorch_model.bin." in (tmp_path / "out" / "README.md").read_text()
    )


def test_a_failed_publish_gives_an_error_and_writes_nothing(tiny_checkpoint, evaluation, tmp_path, monkeypatch, capsys):
    (evaluation / "other.json").write_text('{"data": 1}')
    (evaluation / "another.json").write_text(json.dumps(SUMMARY | {"weights": "0123456789abcdef"}))
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("mine")
    for kind, message, arguments in (
        (ConfigError, "unknown dtype 'int8'.*'float16'", {"dtype": "int8"}),
        (ConfigError, "unknown model", {"model": "defualt"}),
        (ConfigError, "licence '' is not a licence name", {"licence": ""}),
        (ConfigError, r"README\.md: already exists; use -f", {"folder": tmp_path / "project"}),
        (
            CheckpointError,
            "an evaluation of 'tiny', which has other weights",
            {"evaluation": evaluation / "another.json"},
        ),
        (CheckpointError, "not an evaluation's summary", {"evaluation": tmp_path / "nothing"}),
        (CheckpointError, "not an evaluation's summary", {"evaluation": evaluation / "other.json"}),
    ):
        with pytest.raises(kind, match=message):
            publish.publish(**({"model": tiny_checkpoint, "folder": tmp_path / "out"} | arguments))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        publish.publish(tiny_checkpoint, tmp_path / "file" / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr("sys.argv", ["publish", "defualt", str(tmp_path / "out")])
    assert publish.main() == 2 and capsys.readouterr().err.startswith("error: unknown model")
    assert (tmp_path / "project" / "README.md").read_text() == "mine"


def test_weights_too_large_for_float16_are_refused(tiny_checkpoint, tmp_path):
    net = separator.load(tiny_checkpoint)
    with torch.no_grad():
        net.to_masks.bias[0] = 1e5
    separator.save(net, tmp_path / "large.safetensors")
    with pytest.raises(CheckpointError, match=r"to_masks\.bias has values too large for torch\.float16; store it"):
        publish.publish(tmp_path / "large.safetensors", tmp_path / "out", dtype="float16")
    assert not (tmp_path / "out").exists()


class Hub:
    """Replaces the hub's client, and records the calls."""

    fails = None

    def __init__(self, **_):
        pass

    def create_repo(self, repository, private, exist_ok):
        if self.fails:
            raise RuntimeError(self.fails)
        Hub.made = (repository, private, exist_ok)

    def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
        Hub.uploaded = (repo_id, sorted(allow_patterns), sorted(path.name for path in folder_path.iterdir()))


def test_upload_to_the_hub(tiny_checkpoint, tmp_path, monkeypatch, capsys):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    arguments = ["publish", str(tiny_checkpoint), str(tmp_path / "out"), "--upload", "me/tiny", "--private"]
    monkeypatch.setattr("sys.argv", arguments)
    assert publish.main() == 0
    assert Hub.made == ("me/tiny", True, True)
    assert Hub.uploaded == ("me/tiny", sorted(publish.FILES), sorted(publish.FILES))
    assert re.search(r"huggingface\.co/me/tiny$", capsys.readouterr().out.strip())
    monkeypatch.setattr(Hub, "fails", "401 Client Error\nmore")
    monkeypatch.setattr("sys.argv", [*arguments, "-f"])
    assert publish.main() == 2
    assert "the upload to the hub failed (401 Client Error); log in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("sources", "text"),
    [
        (("speaker1", "speaker2"), "2 speakers"),
        (("speaker1", "speaker2", "background"), "2 speakers and background"),
        (("vocals", "rest"), "vocals and rest"),
    ],
)
def test_a_card_names_what_the_model_separates(sources, text):
    net = separator.ConvTasNet(sample_rate=8000, **TINY | dict(num_sources=len(sources), sources=sources))
    assert publish._listed(net) == text
