"""Networks whose stems have inverted polarity, because the objective ignores the sign."""

import numpy as np
import pytest
import torch
from conftest import TINY

import separator
from separator import export
from separator.data import Mixture
from separator.evaluate import evaluation
from separator.inference.network_runner import fit_levels
from separator.models.polarity import polarity


@pytest.fixture(params=["random", "fourier"])
def net(request):
    """A network whose stems are positive parts of the mixture. The decoder is the transpose of the encoder."""
    torch.manual_seed(0)
    net = separator.ConvTasNet(sample_rate=8000, **TINY | {"encoder_init": request.param, "mixture_consistency": False})
    net.decoder.weight.data.copy_(net.encoder.weight.data)
    return net.eval().requires_grad_(False)


def save_inverted(net, path):
    net.decoder.weight.neg_()
    separator.save(net, path)
    net.decoder.weight.neg_()
    return path


def test_an_inverted_network_gives_the_same_stems(net, tmp_path, two_voices):
    mixture = two_voices.sum(0)[::2].copy()
    separator.save(net, tmp_path / "net.safetensors")
    upright = separator.Separator(tmp_path / "net.safetensors").separate(mixture, 8000)
    inverted = separator.Separator(save_inverted(net, tmp_path / "turned.safetensors")).separate(mixture, 8000)
    for name, stem in upright.items():
        assert np.abs(stem).max() > 0.01
        np.testing.assert_allclose(inverted[name], stem, atol=1e-5)


def test_a_single_stem_may_be_inverted(two_voices):
    voices = torch.from_numpy(two_voices)[:, None]
    fitted = fit_levels(voices * torch.tensor([-0.5, 2.0])[:, None, None], voices.sum(0), may_be_inverted=True)
    torch.testing.assert_close(fitted, voices, atol=1e-3, rtol=0)
    # If the stems sum to the mixture, a negative gain is an error of the network.
    silenced = fit_levels(voices * torch.tensor([-0.5, 2.0])[:, None, None], voices.sum(0))
    assert silenced[0].abs().max() == 0


def test_streams_and_evaluation_correct_the_polarity(net, tmp_path, two_voices):
    torch.manual_seed(0)
    causal = separator.ConvTasNet(
        sample_rate=8000, causal=True, **TINY | {"mixture_consistency": False, "norm": "channel"}
    )
    causal.decoder.weight.data.copy_(causal.encoder.weight.data)
    causal.eval().requires_grad_(False)
    assert (polarity(causal) == 1).all()
    mixture = two_voices.sum(0)[::2].copy()
    with separator.Separator(save_inverted(causal, tmp_path / "causal.safetensors")).stream() as stream:
        stems = np.concatenate([stream.push(mixture), stream.flush()], axis=-1)
    assert (stems @ mixture > 0).all()
    item = Mixture.of(two_voices[:, ::2].copy(), 8000, "one", 0.9)
    model = separator.Separator(save_inverted(net, tmp_path / "turned.safetensors"))
    assert (evaluation.separated(model, item) @ item.mixture > 0).all()


@pytest.mark.parametrize("net", ["random"], indirect=True)
def test_an_inverted_network_is_exported_with_the_right_polarity(net, tmp_path, two_voices):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = separator.load(save_inverted(net, tmp_path / "turned.safetensors"))
    assert (polarity(model) == -1).all()
    export.export(model, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    mixture = two_voices.sum(0)[None, ::2].copy()
    (stems,) = session.run(None, {"mixture": mixture})
    np.testing.assert_allclose(stems[0], net(torch.from_numpy(mixture))[0].numpy(), atol=1e-4)
