import signal

import numpy as np
import pytest
import soundfile
import torch

import separator
from separator.data import Voice

TINY = dict(
    num_filters=32,
    filter_length=32,
    bottleneck_channels=12,
    skip_channels=0,
    hidden_channels=16,
    num_blocks=3,
    num_repeats=1,
    mask="relu",
    encoder_init="fourier",
    magnitude_input=True,
    mixture_consistency=True,
)


def pytest_collection_modifyitems(items):
    """Begin with the tests that one worker must run alone, or the other workers wait for it in the end."""
    items.sort(key=lambda item: item.get_closest_marker("xdist_group") is None)


@pytest.fixture(scope="session", autouse=True)
def heed_interrupts():
    """Handle SIGINT. A background job of a shell, such as a CI run, ignores it, and its child processes do too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A small untrained network. It separates badly, but it works like a trained one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    separator.save(separator.ConvTasNet(sample_rate=8000, **TINY), path)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_checkpoint):
    return separator.Separator(tiny_checkpoint)


@pytest.fixture(scope="session")
def two_voices():
    """Two generated voices at 16 kHz, float32 [source, time], 3 s."""
    voices = []
    for seed in (1, 2):
        generator = np.random.default_rng([77, 77, 77, seed])
        voices.append(0.4 * Voice.draw(generator).speak(3.0, 16000, generator))
    return np.stack(voices)


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
    """Folders of six speakers with short files: two folder depths, several formats, rates and channel counts."""
    root = tmp_path_factory.mktemp("corpus")
    forms = [
        ("wav", 16000, 1),
        ("flac", 44100, 2),
        ("ogg", 16000, 1),
        ("wav", 8000, 1),
        ("mp3", 22050, 1),
        ("aiff", 48000, 2),
    ]
    for number, (suffix, rate, channels) in enumerate(forms):
        voice = Voice.draw(np.random.default_rng([5, number]))
        for take in range(2):
            samples = voice.speak(1.5, rate, np.random.default_rng([5, number, take]))
            folder = root / f"speaker{number}" / ("deep" if take else "")
            folder.mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / f"take{take}.{suffix}", np.stack([samples] * channels, axis=1), rate)
        (root / f"speaker{number}" / "notes.txt").write_text("not audio")
    return root


@pytest.fixture(scope="session")
def causal_checkpoint(tmp_path_factory):
    """A small untrained causal network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "causal.safetensors"
    net = separator.ConvTasNet(sample_rate=8000, causal=True, norm="cumulative", **TINY)
    separator.save(net, path)
    return path
