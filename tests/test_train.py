import csv
import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

import separator
from separator import checkpoint, config, schedules
from separator.errors import CheckpointError, ConfigError, TrainingError
from separator.train import Run

QUICK = [
    "model.sample_rate=8000", "model.num_filters=32", "model.filter_length=32", "model.bottleneck_channels=8",
    "model.skip_channels=0", "model.hidden_channels=12", "model.num_blocks=2", "model.num_repeats=1",
    "model.encoder_init=fourier", "data.num_speakers=4", "data.recordings_per_speaker=1",
    "data.recording_seconds=1", "data.mixing.segment_seconds=0.5", "data.valid_seconds=0.5", "data.valid_mixtures=3",
    "trainer.batch_size=2", "trainer.max_steps=12", "trainer.validate_every=4", "trainer.log_every=1",
    "trainer.compile=off", "trainer.num_workers=0", "trainer.accelerator=cpu",
]  # fmt: skip


def compose(*overrides, directory=None):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(directory or config.config_directory(), version_base="1.3"):
        return config.resolve(compose("config", overrides=list(overrides)))


def quick(folder, *overrides):
    return Run(compose(*QUICK, f"run={folder}", *overrides))


def rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder):
    return separator.load(folder / "last.safetensors").state_dict()


def test_a_run_leaves_everything_that_is_needed(tmp_path):
    quick(tmp_path / "run").fit()
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "config.yaml", "train.csv", "valid.csv", "curves.png", "best.safetensors", "last.safetensors", "state.pt",
        "tensorboard",
    }  # fmt: skip
    assert [int(row["step"]) for row in rows(tmp_path / "run" / "train.csv")] == list(range(1, 13))
    assert [int(row["step"]) for row in rows(tmp_path / "run" / "valid.csv")] == [4, 8, 12]
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert settings["model"]["num_filters"] == 32 and settings["seed"] == 0
    facts = checkpoint.read_facts(tmp_path / "run" / "last.safetensors")
    assert facts["training"]["step"] == 12 and facts["training"]["settings"] == settings
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert separator.Separator(tmp_path / "run" / "best.safetensors").sample_rate == 8000


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_learns(tmp_path, precision):
    """One mixture, over and over: a network that learns at all learns this."""
    options = ["data.mixing.level_db=0", "data.num_speakers=2", "data.recording_seconds=0.5", "trainer.max_steps=40"]
    quick(tmp_path, *options, "trainer.validate_every=40", "optimizer.lr=0.01", f"trainer.precision={precision}").fit()
    losses = [float(row["loss"]) for row in rows(tmp_path / "train.csv")]
    assert sum(losses[-10:]) < sum(losses[:10]) - 50


def test_training_starts_from_another_model(tmp_path):
    quick(tmp_path / "first").fit()
    options = [f"start_from={tmp_path}/first/last.safetensors", "optimizer.lr=0", "trainer.max_steps=1"]
    quick(tmp_path / "second", *options).fit()
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ConfigError, match=r"it has model.hidden_channels=12, this run has 16; only a network of the"):
        quick(tmp_path / "third", *options, "model.hidden_channels=16").fit()
    with pytest.raises(ConfigError, match=r"unknown model 'defult'"):
        quick(tmp_path / "third", "start_from=defult").fit()
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize("schedule", ["halve", "linear"])
def test_a_continued_run_equals_an_undisturbed_one_bit_for_bit(tmp_path, schedule, monkeypatch):
    options = [f"schedule={schedule}", "trainer.checkpoint_minutes=0"]
    options += ["schedule.patience=1"] if schedule == "halve" else []
    quick(tmp_path / "whole", *options).fit()
    real, calls = Run._step, []

    def dies(self, *args):
        calls.append(1)
        if len(calls) in (4, 7):  # after a validation, and between two
            raise RuntimeError("killed")
        return real(self, *args)

    monkeypatch.setattr(Run, "_step", dies)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            quick(tmp_path / "broken", *options).fit()
    quick(tmp_path / "broken", *options).fit()
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "broken")[name]), name
    for name, columns in (
        ("train", ("step", "loss", "learning_rate", "gradient_norm")),
        ("valid", ("step", "si_snri")),
    ):
        whole, broken = (rows(tmp_path / folder / f"{name}.csv") for folder in ("whole", "broken"))
        assert [[row[key] for key in columns] for row in whole] == [[row[key] for key in columns] for row in broken]


def test_rows_after_the_last_checkpoint_are_forgotten(tmp_path, monkeypatch):
    """Killed between checkpoints, a run has logged steps that it will do again."""
    quick(tmp_path / "whole").fit()
    real = Run._step

    def dies(self, *args):
        if self.progress.step == 7:
            raise RuntimeError("killed")
        return real(self, *args)

    monkeypatch.setattr(Run, "_step", dies)
    with pytest.raises(RuntimeError, match="killed"):
        quick(tmp_path / "broken").fit()
    assert len(rows(tmp_path / "broken" / "train.csv")) == 6
    monkeypatch.setattr(Run, "_step", real)
    quick(tmp_path / "broken").fit()
    steps = [row["step"] for row in rows(tmp_path / "broken" / "train.csv")]
    assert steps == [str(step) for step in range(1, 13)]
    assert [row["loss"] for row in rows(tmp_path / "broken" / "train.csv")] == [
        row["loss"] for row in rows(tmp_path / "whole" / "train.csv")
    ]


def test_a_killed_process_continues_with_the_same_command(tmp_path):
    command = [sys.executable, "-m", "separator.train", *QUICK, f"run={tmp_path / 'run'}", "trainer.max_steps=40"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in rows(tmp_path / "run" / "train.csv")] == [str(step) for step in range(1, 41)]


def test_a_finished_run_is_left_alone_and_max_minutes_stops_one(tmp_path):
    quick(tmp_path / "run", "trainer.max_minutes=0").fit()
    assert len(rows(tmp_path / "run" / "train.csv")) == 1
    quick(tmp_path / "run").fit()
    before = weights(tmp_path / "run")
    quick(tmp_path / "run").fit()
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path / "run").items())
    assert len(rows(tmp_path / "run" / "train.csv")) == 12


def test_another_configuration_does_not_continue_a_run(tmp_path):
    quick(tmp_path, "trainer.max_minutes=0").fit()
    with pytest.raises(ConfigError, match=r"run with optimizer\.lr=0\.001, this one has optimizer\.lr=0\.5"):
        quick(tmp_path, "optimizer.lr=0.5").fit()


def test_a_damaged_state_is_named(tmp_path):
    quick(tmp_path, "trainer.max_minutes=0").fit()
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot be resumed from"):
        quick(tmp_path).fit()


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    run = quick(tmp_path, "trainer.validate_every=2")
    item = type(run.train_set).__getitem__

    def poisoned(self, index):
        mixture = item(self, index)
        if index == 10:
            mixture.mixture[3] = math.nan
        return mixture

    monkeypatch.setattr(type(run.train_set), "__getitem__", poisoned)
    with pytest.raises(TrainingError, match=r"step 6: the loss is nan.*lower optimizer\.lr.*seed 0 example 10"):
        run.fit()
    assert all(value.isfinite().all() for value in weights(tmp_path).values())
    assert checkpoint.load_state(tmp_path / "state.pt")["progress"]["step"] == 4


def test_gradients_are_clipped(tmp_path):
    run = quick(tmp_path, "trainer.clip_norm=0.001", "trainer.max_steps=1", "optimizer.lr=0")
    run.fit()
    norm = torch.cat([parameter.grad.flatten() for parameter in run.net.parameters()]).norm()
    assert float(norm) == pytest.approx(0.001, rel=1e-3)
    assert float(rows(tmp_path / "train.csv")[0]["gradient_norm"]) > 0.001


def test_halving_waits_for_stale_validations():
    schedule = schedules.Halve(patience=2)
    rates = []
    for is_best in (True, False, False, False, True, False, False):
        schedule.after_validation(is_best)
        rates.append(schedule.at(1))
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_linear_decay_rises_stays_and_falls():
    schedule = schedules.LinearDecay(steps=100, warmup_steps=10, decay_steps=50)
    assert [schedule.at(step) for step in (1, 5, 10, 50, 51)] == pytest.approx([0.1, 0.5, 1, 1, 1])
    assert [schedule.at(step) for step in (76, 100)] == pytest.approx([0.5, 0.02])
    with pytest.raises(ConfigError, match="from 1 to steps=10, got 0 and 11"):
        schedules.LinearDecay(steps=10, decay_steps=11)
    # A trial of two steps of a recipe that warms up over ten.
    trial = schedules.LinearDecay(steps=2, warmup_steps=10)
    assert (trial.at(1), trial.at(2)) == (0.1, 0.1)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+model.num_filter=5"], "no setting 'model.num_filter'; .*did you mean 'num_filters'"),
        (["+data.mixing.level=5"], "no setting 'data.mixing.level'; .*did you mean 'level_db'"),
        (["+trainer.steps=5"], "no setting 'trainer.steps'"),
        (["+optimizer.learning_rate=5"], "no setting 'optimizer.learning_rate'"),
        (["+schedule.patiences=5"], "no setting 'schedule.patiences'; .*did you mean 'patience'"),
        (["+modle.num_filters=5"], "no setting 'modle'; .*did you mean 'model'"),
        (["objective=sisnr"], "unknown objective 'sisnr'; .*did you mean 'si_snr'"),
        (["trainer.precision=int8"], "unknown trainer.precision 'int8'"),
        (["data=folder"], "no value for data.root"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate"),
        (["model.norm=batch"], "unknown norm 'batch'"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_with_its_name(tmp_path, overrides, message):
    base = [] if "data=folder" in overrides else QUICK
    with pytest.raises(ConfigError, match=message):
        Run(compose(*base, f"run={tmp_path}", *overrides))


def test_a_misspelt_key_inside_a_recipe_file_is_refused(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\ntrainer:\n  max_step: 5\n")
    command = [sys.executable, "-m", "separator.train", "--config-dir", str(tmp_path), "+recipe=mine", "run=run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: there is no setting 'trainer.max_step'" in done.stderr and "did you mean 'max_steps'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+recipe=nonsense"], "Could not find 'recipe/nonsense'"),
        (["model.num_filter=5"], "num_filter"),
        (["data=folder", "data.root=nowhere"], "nowhere: no such folder"),
        (["data=folder"], "no value for data.root; give one with data.root=VALUE"),
        (["data=dns"], "no value for data.root; give one with data.root=VALUE"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(tmp_path, arguments, message):
    done = subprocess.run(
        [sys.executable, "-m", "separator.train", *arguments], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert message in done.stderr and done.stderr.strip().count("\n") == 0
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.pt"))


RECIPES = sorted(path.stem for path in (Path(__file__).parent.parent / "conf" / "recipe").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains(tmp_path, recipe):
    settings = compose(f"+recipe={recipe}", f"run={tmp_path}")
    assert settings["name"].startswith(recipe) and settings["model"]["mixture_consistency"]
    assert settings["model"]["causal"] == ("causal" in recipe)
    assert settings["schedule"]["_target_"].endswith("LinearDecay")
    settings["trainer"] |= {"max_steps": 2, "validate_every": 2, "compile": "off", "num_workers": 0, "log_every": 1}
    settings["schedule"] |= {"steps": 2, "warmup_steps": 0}
    settings["data"] |= {"num_speakers": 4, "valid_mixtures": 1, "valid_seconds": 0.5}
    settings["data"]["mixing"]["segment_seconds"] = 0.5
    Run(settings).fit()
    assert separator.load(tmp_path / "best.safetensors").sample_rate == 16000


def test_a_folder_of_voices_trains(tmp_path, corpus_folder):
    options = [item for item in QUICK if not item.startswith("data.")]
    options += ["data=folder", f"data.root={corpus_folder}"]
    options += ["data.mixing.segment_seconds=0.5", "data.valid_seconds=0.5"]
    options += [
        "data.valid_mixtures=3",
        "data.generated_share=0.5",
        "data.generated_speakers=2",
        "data.mixing.speeds=[0.9,1.1]",
    ]
    Run(compose(*options, f"run={tmp_path}")).fit()
    assert len(rows(tmp_path / "valid.csv")) == 3
