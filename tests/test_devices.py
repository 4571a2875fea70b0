"""The caller's torch settings do not change the results. Errors for unusable devices."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import separator
from separator.devices import find_device
from separator.errors import ConfigError

# All settings run in one process, which a memory error would abort. Each setting is made and undone.
CODE = """
import sys, numpy as np, torch, separator
path, recording = sys.argv[1:]
mixture = np.load(recording + ".npy")

def stems(sep, name):
    found = list(sep.separate(mixture, 16000).values())
    sep.separate_file(recording + ".wav", recording + name)
    if sep.net.can_stream:
        with sep.stream(16000) as stream:
            blocks = [stream.push(block) for block in np.split(mixture, 40)]
            found += list(np.concatenate([*blocks, stream.flush()], axis=-1))
    return np.stack(found)

SETTINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "default device": lambda: torch.device("meta"),
    "default dtype float64": torch.float64,
    "default dtype bfloat16": torch.bfloat16,
}
expected = stems(separator.Separator(path), "plain")
assert expected.dtype == np.float32 and np.abs(expected).max() > 0.01
for name, setting in SETTINGS.items():
    earlier = separator.Separator(path)
    if isinstance(setting, torch.dtype):
        torch.set_default_dtype(setting)
        found = [stems(earlier, name), stems(separator.Separator(path), name + " inside")]
        torch.set_default_dtype(torch.float32)
    else:
        with setting():
            found = [stems(earlier, name), stems(separator.Separator(path), name + " inside")]
    for result in found:
        assert result.dtype == np.float32 and np.array_equal(result, expected), name
print("all equal")
"""


@pytest.mark.parametrize("more", [{}, {"causal": True, "norm": "cumulative"}], ids=["whole", "causal"])
def test_the_callers_settings_change_nothing(more, two_voices, tmp_path):
    # Large enough for the compiled kernels.
    sizes = dict(num_filters=64, filter_length=64, bottleneck_channels=32, skip_channels=0, hidden_channels=48)
    sizes |= dict(num_blocks=3, num_repeats=2, encoder_init="fourier", magnitude_input=True, mixture_consistency=True)
    torch.manual_seed(0)
    separator.save(separator.ConvTasNet(**sizes | more), tmp_path / "net.safetensors")
    mixture = two_voices.sum(0).astype(np.float32)
    np.save(tmp_path / "mixture.npy", mixture)
    soundfile.write(tmp_path / "mixture.wav", mixture, 16000)
    files = [str(tmp_path / "net.safetensors"), str(tmp_path / "mixture")]
    done = subprocess.run([sys.executable, "-c", CODE, *files], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "all equal\n"), done.stderr[-800:]


def no_gpu(monkeypatch, built, count=0):
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(
    ("name", "built", "count", "why"),
    [
        (
            "cuda",
            False,
            0,
            r"torch [\d.]+\S* has no CUDA; install torch with CUDA \(see pytorch.org\), or use cpu",
        ),
        ("cuda:1", False, 0, "has no CUDA"),
        ("cuda", True, 0, "torch has CUDA, but sees no GPU; check that nvidia-smi lists one, or use cpu"),
        ("cuda:3", True, 2, "torch sees 2 GPUs, cuda:0 to cuda:1$"),
        ("cuda:1", True, 1, "torch sees 1 GPU, cuda:0$"),
    ],
)
def test_why_a_gpu_is_refused(monkeypatch, name, built, count, why):
    no_gpu(monkeypatch, built, count)
    with pytest.raises(ConfigError, match=f"device '{name}' cannot be used: .*{why}"):
        find_device(name)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is a GPU")
@pytest.mark.parametrize(("built", "why"), [(False, "has no MPS"), (True, "has no suitable GPU; use cpu")])
def test_why_mps_is_refused(monkeypatch, built, why):
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    with pytest.raises(ConfigError, match=why):
        find_device("mps")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "cpu:1:2", "meta:9", "xla"])
def test_a_device_that_does_not_exist_gives_one_line(name):
    with pytest.raises(ConfigError) as raised:
        find_device(name)
    assert f"device {name!r} cannot be used: " in str(raised.value) and "\n" not in str(raised.value)
