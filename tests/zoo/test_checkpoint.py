import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import separator
from separator.errors import CheckpointError
from separator.zoo import checkpoint


def test_a_checkpoint_has_the_permissions_of_any_new_file(tmp_path):
    """A library that puts a file of its own in its place must not hide it from other users."""
    separator.save(separator.ConvTasNet(num_filters=16, num_blocks=1, num_repeats=1), tmp_path / "net.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "net.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_saved_network_is_loaded_unchanged(tmp_path):
    net = separator.ConvTasNet(
        num_sources=3, sample_rate=8000, num_filters=8, filter_length=10, num_blocks=2, num_repeats=1,
        bottleneck_channels=4, hidden_channels=6, skip_channels=4, norm="cumulative", causal=True,
        mask="relu", sources=["voice", "music", "noise"],
    )  # fmt: skip
    separator.save(net, tmp_path / "net.safetensors", training={"step": 7})
    back = separator.load(tmp_path / "net.safetensors")
    assert not back.training
    assert (back.sources, back.sample_rate, back.causal) == (("voice", "music", "noise"), 8000, True)
    mixture = torch.randn(2, 333)
    assert torch.equal(back(mixture), net(mixture))
    facts = checkpoint.read_facts(tmp_path / "net.safetensors")
    assert facts["training"] == {"step": 7} and facts["architecture"] == "ConvTasNet"
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


LOW_RATE = dict(
    num_filters=8, filter_length=8, bottleneck_channels=4, skip_channels=0, hidden_channels=6, norm="channel"
)
LOW_RATE |= dict(num_repeats=3, num_blocks=[1, 2, 1], repeat_rates=[1, 4, 1], low_rate_hidden_channels=5)


def test_a_network_with_repeats_at_a_lower_rate_is_loaded_unchanged(tmp_path):
    net = separator.ConvTasNet(**LOW_RATE, num_sources=3, sources=["speaker1", "speaker2", "background"]).eval()
    separator.save(net, tmp_path / "net.safetensors")
    other, mixture = separator.load(tmp_path / "net.safetensors"), torch.randn(1, 200)
    assert torch.equal(other(mixture), net(mixture)) and other.arguments == net.arguments


@pytest.mark.parametrize("blocks", [[1, 10**9, 1], [1, "2", 1], [1] * 1000, [1, 2], {"a": 1}])
def test_impossible_lists_of_blocks_are_refused(tmp_path, blocks):
    net = separator.ConvTasNet(**LOW_RATE)
    net.arguments["num_blocks"] = blocks
    separator.save(net, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="no network can be built from its description"):
        separator.load(tmp_path / "net.safetensors")


def test_half_precision_weights_are_loaded_as_float32(tiny_checkpoint, tmp_path):
    weights = {name: value.half() for name, value in load_file(tiny_checkpoint).items()}
    facts = checkpoint.read_facts(tiny_checkpoint)
    save_file(weights, tmp_path / "half.safetensors", {key: json.dumps(value) for key, value in facts.items()})
    net = separator.load(tmp_path / "half.safetensors")
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


def altered(source, target, **changes):
    facts = {key: json.dumps(value) for key, value in (checkpoint.read_facts(source) | changes).items()}
    save_file(load_file(source), target, facts)
    return target


def test_a_file_from_a_newer_version_is_refused(tiny_checkpoint, tmp_path):
    path = altered(tiny_checkpoint, tmp_path / "new.safetensors", format_version=99)
    with pytest.raises(CheckpointError, match="version 99, expected at most 1; update"):
        separator.load(path)


def test_an_unknown_architecture_is_refused(tiny_checkpoint, tmp_path):
    path = altered(tiny_checkpoint, tmp_path / "odd.safetensors", architecture="os.system")
    with pytest.raises(CheckpointError, match=r"unknown architecture 'os\.system'"):
        separator.load(path)


@pytest.mark.parametrize("arguments", [{"no_such_argument": 1}, {"num_filters": 64}, {"norm": "batch"}])
def test_weights_that_do_not_match_their_description_are_refused(tiny_checkpoint, tmp_path, arguments):
    stored = checkpoint.read_facts(tiny_checkpoint)["arguments"]
    path = altered(tiny_checkpoint, tmp_path / "odd.safetensors", arguments=stored | arguments)
    with pytest.raises(CheckpointError, match=r"do not match|no network can be built"):
        separator.load(path)


@pytest.mark.parametrize("kept", [0, 5, 100, 2000, -1])
def test_a_truncated_file_is_refused(tiny_checkpoint, tmp_path, kept):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(tiny_checkpoint.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: .*get the file again"):
        separator.load(path)


def test_files_of_other_kinds_are_refused(tmp_path):
    torch.save({"weights": torch.zeros(3)}, tmp_path / "pickle.safetensors")
    with pytest.raises(CheckpointError, match="not a separator checkpoint"):
        separator.load(tmp_path / "pickle.safetensors")
    save_file({"x": torch.zeros(3)}, tmp_path / "foreign.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="not from separator"):
        separator.load(tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        separator.load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="no model in this folder"):
        separator.load(tmp_path)


def test_an_unwritable_path_is_refused(tiny_checkpoint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CheckpointError, match="cannot be written"):
        separator.save(separator.load(tiny_checkpoint), tmp_path / "file" / "net.safetensors")
