"""Copies of a `Separator`, by copy, pickle or fork, separate in the same way as the original."""

import copy
import io
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import TINY

import separator

MIXTURE = 0.1 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)


def by_torch(value):
    file = io.BytesIO()
    torch.save(value, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda value: pickle.loads(pickle.dumps(value)), "torch.save": by_torch}


def use(model):
    """Use a model for a file and a stream, so that it has recorded steps."""
    model.separate(MIXTURE, 8000)
    if model.net.can_stream:
        with model.stream() as stream:
            for block in np.split(MIXTURE, 50):
                stream.push(block)
        assert model._live._recordings
    return model


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_causal", [False, True])
def test_a_copied_separator_gives_the_same_stems(
    tiny_checkpoint, causal_checkpoint, kind, is_used, precision, is_causal
):
    model = separator.Separator(causal_checkpoint if is_causal else tiny_checkpoint, "cpu", precision)
    expected = copy.deepcopy(model.separate(MIXTURE, 8000))
    other = COPIES[kind](use(model) if is_used else model)
    assert other.net is not model.net and other.sources == model.sources and other.precision == model.precision
    tolerance = 1e-6 if precision == "float32" else 0.01  # the memory layout may change the last bits
    for name, stem in other.separate(MIXTURE, 8000).items():
        np.testing.assert_allclose(stem, expected[name], atol=tolerance)
    if is_causal:
        with other.stream() as stream:
            streamed = np.concatenate([*(stream.push(block) for block in np.split(MIXTURE, 50)), stream.flush()], -1)
        np.testing.assert_allclose(streamed, np.stack(list(expected.values())), atol=10 * tolerance)
    with torch.no_grad():  # a copy has its own weights
        other.net.decoder.weight.zero_()
    np.testing.assert_allclose(model.separate(MIXTURE, 8000)["speaker1"], expected["speaker1"], atol=tolerance)


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("mask", ["relu", "sigmoid", "softmax"])
@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_a_copied_network_gives_the_same_output(kind, mask, activation):
    net = separator.ConvTasNet(sample_rate=8000, **(TINY | {"mask": mask, "encoder_activation": activation})).eval()
    mixture = torch.from_numpy(MIXTURE)[None]
    with torch.no_grad():
        expected = net(mixture)
        assert torch.equal(COPIES[kind](net)(mixture), expected)


def test_settings_are_copied(tiny_checkpoint):
    model = separator.Separator(tiny_checkpoint, "cpu", shifts=2, segment_seconds=3.0, overlap=0.5)
    for other in (make(model) for make in COPIES.values()):
        assert (other.shifts, other.segment_seconds, other.overlap, other.model) == (2, 3.0, 0.5, str(tiny_checkpoint))


FORKED = """
import multiprocessing, sys, numpy as np, separator
from separator.errors import ConfigError

mixture = 0.1 * np.random.default_rng(0).standard_normal(48000).astype("f4")
model = separator.Separator(sys.argv[1], "cpu", "float32", threads=2)

def work(_):
    return [one.separate(mixture, 8000)["speaker1"] for one in (model, separator.Separator(sys.argv[1]))]

def more_threads(_):
    try:
        separator.Separator(sys.argv[1], threads=2)
    except ConfigError as error:
        return str(error)

expected = work(0)[0]
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map_async(work, range(2)).get(60)
    errors = pool.map_async(more_threads, range(1)).get(60)
for stems in found:
    for stem in stems:
        np.testing.assert_allclose(stem, expected, atol=1e-5)
assert "was forked after its parent had loaded a model" in errors[0], errors
separator.Separator(sys.argv[1], threads=2)
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_process_forked_after_use_can_separate(tiny_checkpoint):
    """As with gunicorn --preload, celery, and multiprocessing where it forks."""
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(tiny_checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.stdout == "done\n", done.stderr
