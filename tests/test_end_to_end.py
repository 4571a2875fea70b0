"""From the training command to the stems of a file, for each encoder_init, with and without mixture consistency."""

import numpy as np
import pytest
import soundfile
from hydra import compose, initialize_config_dir

from separator import cli, config
from separator.train.loop import Run

SMALL = [
    "model.sample_rate=8000", "model.num_filters=32", "model.filter_length=32", "model.bottleneck_channels=12",
    "model.skip_channels=0", "model.hidden_channels=16", "model.num_blocks=3", "model.num_repeats=1",
    "data.num_speakers=4", "data.recordings_per_speaker=1", "data.recording_seconds=1", "data.valid_seconds=0.5",
    "data.mixing.segment_seconds=0.5", "data.valid_mixtures=2", "trainer.batch_size=2", "trainer.max_steps=20",
    "trainer.validate_every=20", "trainer.compile=off", "trainer.num_workers=0", "trainer.accelerator=cpu",
    "trainer.log_mixtures=0", "optimizer.lr=0.01",
]  # fmt: skip


@pytest.mark.parametrize("consistent", [True, False])
@pytest.mark.parametrize("start", ["random", "fourier"])
def test_stems_of_a_trained_network_sound_and_have_the_right_polarity(tmp_path, capsys, two_voices, start, consistent):
    options = [f"model.encoder_init={start}", f"model.mixture_consistency={consistent}", "seed=3"]
    with initialize_config_dir(config.config_directory(), version_base="1.3"):
        settings = config.resolve(compose("config", overrides=[*SMALL, *options, f"run={tmp_path}/run"]))
    Run(settings).fit()
    mixture = 0.5 * two_voices.sum(0)
    soundfile.write(tmp_path / "mix.wav", mixture, 16000, "FLOAT")
    arguments = [str(tmp_path / "mix.wav"), "-m", str(tmp_path / "run"), "-o", str(tmp_path / "stems")]
    assert cli.main(arguments) == 0
    assert "silence" not in capsys.readouterr().err
    stems = np.stack([soundfile.read(path)[0] for path in sorted((tmp_path / "stems" / "mix").glob("*.wav"))])
    assert (stems @ mixture > 0).all()
    # The stems contain most of the energy below the model's Nyquist frequency.
    assert np.square(stems.sum(0)).sum() > 0.3 * np.square(mixture).sum()
