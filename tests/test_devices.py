"""What a caller has set for torch changes nothing."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

import separator

# One process for all: memory that is overwritten aborts it. How each setting is made, and undone.
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
    for one in found:
        assert one.dtype == np.float32 and np.array_equal(one, expected), name
print("all equal")
"""


@pytest.mark.parametrize("more", [{}, {"causal": True, "norm": "cumulative"}], ids=["whole", "causal"])
def test_the_callers_settings_change_nothing(more, two_voices, tmp_path):
    # Large enough for the compiled passes.
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
