import pytest
import torch
from conftest import TINY

import separator
from separator.errors import ConfigError
from separator.train import average
from separator.zoo import checkpoint, publish


@pytest.fixture
def rounds(tmp_path):
    """Two networks with the same arguments, and the folder of each."""
    nets = []
    for number in range(2):
        torch.manual_seed(number)
        nets.append(separator.ConvTasNet(sample_rate=8000, **TINY))
        facts = {"step": 100 * (number + 1), "valid_si_snri": 5.0, "evaluation": {}, "licence": "cc-by-4.0"}
        separator.save(nets[-1], tmp_path / f"round{number}" / "best.safetensors", facts)
    return nets, [tmp_path / f"round{number}" for number in range(2)]


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["average", *map(str, arguments)])
    return average.main()


def test_every_weight_is_the_mean(rounds):
    (a, b), (first, second) = rounds
    mean, weighted = average.average([first, second]), average.average([first, second, second])
    for name, value in a.state_dict().items():
        other = b.state_dict()[name]
        torch.testing.assert_close(mean.state_dict()[name], (value + other) / 2)
        torch.testing.assert_close(weighted.state_dict()[name], (value + 2 * other) / 3)
    assert not mean.training and mean.sources == a.sources


def test_a_grown_network_is_averaged_with_the_smaller_one(tmp_path):
    """Where both have weights they are averaged. What only the grown network has stays as it is."""
    torch.manual_seed(0)
    small = separator.ConvTasNet(sample_rate=8000, **TINY)
    larger = dict(num_repeats=2, repeat_rates=[1, 2], num_sources=3, sources=["speaker1", "speaker2", "background"])
    grown = separator.ConvTasNet(sample_rate=8000, **TINY | larger)
    torch.nn.init.normal_(grown.stack.low_rates[0].spread.weight)
    separator.save(small, tmp_path / "small.safetensors")
    separator.save(grown, tmp_path / "grown.safetensors")
    mean = average.average([tmp_path / "small.safetensors", tmp_path / "grown.safetensors"]).state_dict()
    before, after = small.state_dict(), grown.state_dict()
    both = [name for name in before if name in after and not name.startswith("to_masks")]
    assert len(both) > 20
    for name in both:
        torch.testing.assert_close(mean[name], (before[name] + after[name]) / 2)
    for name in set(after) - set(before):
        assert torch.equal(mean[name], after[name])
    rows = len(before["to_masks.weight"])
    shared = (before["to_masks.weight"] + after["to_masks.weight"][:rows]) / 2
    torch.testing.assert_close(mean["to_masks.weight"][:rows], shared)
    assert torch.equal(mean["to_masks.weight"][rows:], after["to_masks.weight"][rows:])


def test_the_command_writes_a_checkpoint_with_its_origin(rounds, tmp_path, monkeypatch, capsys):
    _, folders = rounds
    path = tmp_path / "mean.safetensors"
    assert run(monkeypatch, *folders, path) == 0 and capsys.readouterr().out == f"{path}\n"
    assert checkpoint.fingerprint(separator.load(path)) == checkpoint.fingerprint(average.average(folders))
    training = checkpoint.read_facts(path)["training"]
    assert training == {"step": 200, "licence": "cc-by-4.0", "average_of": [str(folder) for folder in folders]}
    publish.publish(path, tmp_path / "out")
    assert "the weights are the mean of round0 and round1." in (tmp_path / "out" / "README.md").read_text()
    before = path.read_bytes()
    assert run(monkeypatch, *folders[::-1], path) == 2 and "already exists; use -f" in capsys.readouterr().err
    assert path.read_bytes() == before
    assert run(monkeypatch, *folders[::-1], path, "-f") == 0 and path.read_bytes() != before


def test_models_that_cannot_be_averaged_are_rejected(rounds, tmp_path, monkeypatch, capsys):
    _, (first, second) = rounds
    separator.save(separator.ConvTasNet(sample_rate=8000, **TINY | {"num_blocks": 2}), tmp_path / "other.safetensors")
    named = separator.ConvTasNet(sample_rate=8000, sources=("voice", "music"), **TINY)
    separator.save(named, tmp_path / "named.safetensors")
    out = tmp_path / "mean.safetensors"
    for arguments, message in (
        (
            (first, tmp_path / "named.safetensors", out),
            "are different networks (sources is ['speaker1', 'speaker2'] and",
        ),
        ((first, tmp_path / "other.safetensors", out), "are different networks (num_blocks is 3 and 2)"),
        ((first, out), "give two or more models to average"),
        ((first, second), "the last argument is the output file; its name must end in .safetensors"),
        ((first, tmp_path / "nothing.safetensors", out), "no such file"),
    ):
        assert run(monkeypatch, *arguments) == 2
        output = capsys.readouterr().err
        assert output.startswith("error: ") and message in output and "Traceback" not in output
        assert not out.exists()
    with pytest.raises(ConfigError, match="got no models; give two or more"):
        average.average([])
