"""A network in ONNX Runtime gives the same output as in torch, for recordings of any length and for streams."""

import json
import sys

import numpy as np
import pytest
import torch
from conftest import TINY

import separator
from separator import export
from separator.errors import ConfigError, StreamError

onnxruntime = pytest.importorskip("onnxruntime")

# A small network, because torch takes about a second to export a block.
SMALL = TINY | dict(num_blocks=2)
LOW = dict(num_blocks=1, num_repeats=3, repeat_rates=[1, 4, 2], low_rate_bottleneck_channels=16)
DTYPES = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64}


def exported(path, net, **settings):
    export.export(net, path, **settings)
    session = onnxruntime.InferenceSession(path)
    return session, json.loads(session.get_modelmeta().custom_metadata_map["separator"])


@pytest.mark.parametrize(
    "variant",
    [
        SMALL,
        SMALL | dict(temporal="talk", skip_channels=12, mask="softmax", mixture_consistency=False),
        SMALL | dict(temporal="span_dynamic", num_channels=2, norm="cumulative"),
        SMALL | LOW | dict(attention=True),
    ],
    ids=["depthwise", "talk", "span_dynamic", "low_rate"],
)
def test_any_length_and_batch_in_onnx_runtime(tmp_path, variant):
    torch.manual_seed(0)
    net = separator.ConvTasNet(sample_rate=8000, **variant).eval()
    session, facts = exported(tmp_path / "net.onnx", net)
    assert facts == {"sample_rate": 8000, "sources": ["speaker1", "speaker2"], "stride": 16, "delay": 0}
    for batch, time in ((1, 8000), (3, 8001), (1, 160_017), (1, 5)):
        shape = (batch, time) if net.num_channels == 1 else (batch, net.num_channels, time)
        mixture = 0.3 * torch.randn(shape)
        (stems,) = session.run(["stems"], {"mixture": mixture.numpy()})
        np.testing.assert_allclose(stems, net(mixture).detach(), atol=1e-4 * 0.3)


@pytest.mark.parametrize("more", [{}, {"causal": True, "norm": "cumulative"}], ids=["whole", "causal"])
def test_silence_and_quiet_parts_are_finite(tmp_path, more):
    """An optimizer that treats 1e-8 as 0 would give NaN for silence."""
    torch.manual_seed(0)
    net = separator.ConvTasNet(sample_rate=16000, **SMALL | more).eval()
    session, _ = exported(tmp_path / "net.onnx", net)
    generator = torch.Generator().manual_seed(0)
    loudness = torch.tensor([0.3, 1e-6, 0.0, 0.1]).repeat_interleave(4000)
    for mixture in (loudness * torch.randn(1, 16000, generator=generator), torch.zeros(1, 8000)):
        (stems,) = session.run(["stems"], {"mixture": mixture.numpy()})
        np.testing.assert_allclose(stems, net(mixture).detach(), atol=1e-5)


@pytest.mark.parametrize(("norm", "further"), [("channel", {}), ("cumulative", {}), ("channel", LOW)])
def test_a_stream_in_onnx_runtime_gives_the_offline_samples(tmp_path, norm, further):
    torch.manual_seed(0)
    net = separator.ConvTasNet(sample_rate=8000, causal=True, norm=norm, **SMALL | further).eval()
    for low in net.stack.low_rates:
        torch.nn.init.normal_(low.spread.weight, std=0.1)
    session, facts = exported(tmp_path / "net.onnx", net, stream=True)
    stride, delay = facts["stride"], facts["delay"]
    assert stride == net.encoder.stride * (4 if further else 1)
    for batch in (1, 2):
        mixture = 0.3 * torch.randn(batch, 4321)
        missing = delay + (-(4321 + delay)) % stride
        waiting = np.pad(mixture.numpy(), ((0, 0), (0, missing)))
        states = {
            given.name: np.zeros([size if isinstance(size, int) else batch for size in given.shape], DTYPES[given.type])
            for given in session.get_inputs()[1:]
        }
        stems, strides = [], 1
        while waiting.size:
            block, waiting = waiting[:, : strides * stride], waiting[:, strides * stride :]
            out, *after = session.run(None, {"mixture": block, **states})
            states = dict(zip(states, after, strict=True))
            stems.append(out)
            strides = strides % 5 + 1
        streamed = np.concatenate(stems, axis=-1)[..., delay : delay + 4321]
        np.testing.assert_allclose(streamed, net(mixture).detach(), atol=1e-4 * 0.3)


def test_the_command(tmp_path, tiny_checkpoint, monkeypatch, capsys):
    target = tmp_path / "deep" / "net.onnx"
    monkeypatch.setattr(sys, "argv", ["export", str(tiny_checkpoint), str(target)])
    assert export.main() == 0
    captured = capsys.readouterr()
    assert captured.out == f"{target}\n" and captured.err == "" and [*target.parent.iterdir()] == [target]
    target.write_text("mine")
    assert export.main() == 2 and target.read_text() == "mine"
    assert capsys.readouterr().err == f"error: {target}: already exists; use -f to replace it, or another name\n"
    monkeypatch.setattr(sys, "argv", [*sys.argv, "-f"])
    monkeypatch.setattr(export, "export", lambda net, path, stream: path.write_text("the network"))
    assert export.main() == 0 and target.read_text() == "the network"


def test_impossible_exports_give_an_error(tmp_path, tiny_checkpoint, monkeypatch, capsys):
    with pytest.raises(StreamError, match="looks ahead and cannot stream"):
        export.export(separator.load(tiny_checkpoint), tmp_path / "net.onnx", stream=True)
    monkeypatch.setattr(sys, "argv", ["export", str(tiny_checkpoint), str(tmp_path / "net.onnx"), "--stream"])
    assert export.main() == 2 and capsys.readouterr().err.startswith("error: this model looks ahead")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"export needs the package onnxscript, .*separator\[export\]"):
        export.export(separator.load(tiny_checkpoint), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []
