import csv
import errno
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import trees
import yaml

import separator
from separator import config
from separator.data import Mixture
from separator.data.corpora import split_speakers
from separator.data.recordings import RecordingError
from separator.errors import CheckpointError, ConfigError, DataError, TrainingError
from separator.io import locks
from separator.train import loop, schedules, training_step
from separator.train.loop import Run, main
from separator.train.run_folder import RunFolder
from separator.train.training_step import Learner, Objective
from separator.zoo import checkpoint

QUICK = [
    "model.sample_rate=8000", "model.num_filters=32", "model.filter_length=32", "model.bottleneck_channels=8",
    "model.skip_channels=0", "model.hidden_channels=12", "model.num_blocks=2", "model.num_repeats=1",
    "model.encoder_init=fourier", "data.num_speakers=4", "data.recordings_per_speaker=1",
    "data.recording_seconds=1", "data.mixing.segment_seconds=0.5", "data.valid_seconds=0.5", "data.valid_mixtures=3",
    "trainer.batch_size=2", "trainer.max_steps=12", "trainer.validate_every=4", "trainer.log_every=1",
    "trainer.compile=off", "trainer.num_workers=0", "trainer.accelerator=cpu", "trainer.log_mixtures=0",
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


def test_a_run_writes_all_its_files(tmp_path):
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
    """Every step has the same mixture. A network that learns at all can learn it."""
    options = ["data.mixing.level_db=0", "data.num_speakers=2", "data.recording_seconds=0.5", "trainer.max_steps=40"]
    quick(tmp_path, *options, "trainer.validate_every=40", "optimizer.lr=0.01", f"trainer.precision={precision}").fit()
    losses = [float(row["loss"]) for row in rows(tmp_path / "train.csv")]
    assert sum(losses[-10:]) < sum(losses[:10]) - 50


@pytest.mark.parametrize("has_bfloat16", [True, False])
def test_auto_precision_is_bfloat16_if_the_hardware_supports_it(tmp_path, monkeypatch, has_bfloat16):
    monkeypatch.setattr(training_step, "computes_bfloat16", lambda device: has_bfloat16)
    with quick(tmp_path, "trainer.precision=auto").learner.autocast():
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if has_bfloat16 else torch.float32)


def test_training_starts_from_another_model(tmp_path):
    quick(tmp_path / "first").fit()
    options = [f"start_from={tmp_path}/first/last.safetensors", "optimizer.lr=0", "trainer.max_steps=1"]
    quick(tmp_path / "second", *options).fit()
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(
        ConfigError, match=r"it has model.hidden_channels=12, but this run has 16; only a network of the"
    ):
        quick(tmp_path / "third", *options, "model.hidden_channels=16").fit()
    with pytest.raises(ConfigError, match=r"unknown model 'defult'"):
        quick(tmp_path / "third", "start_from=defult").fit()
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["schedule=halve", "schedule.patience=1", "trainer.ema_decay=0.9"],
        ["schedule=linear", "trainer.accumulate=2"],
        ["model=conv_tasnet_light"],
    ],
)
def test_a_continued_run_equals_an_uninterrupted_run_bit_for_bit(tmp_path, options, monkeypatch):
    options = [*options, "trainer.checkpoint_minutes=0"]
    quick(tmp_path / "whole", *options).fit()
    real, calls = Learner.step, []

    def dies(self, *args):
        calls.append(1)
        if len(calls) in (4, 7):  # after a validation, and between two validations
            raise RuntimeError("killed")
        return real(self, *args)

    monkeypatch.setattr(Learner, "step", dies)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="killed"):
            quick(tmp_path / "broken", *options).fit()
    quick(tmp_path / "broken", *options).fit()
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "broken")[name]), name
    for name, columns in (
        ("train", ("step", "loss", "learning_rate", "gradient_norm", "skipped_steps", "skipped_recordings")),
        ("valid", ("step", "si_snri", "objective")),
    ):
        whole, broken = (rows(tmp_path / folder / f"{name}.csv") for folder in ("whole", "broken"))
        assert [[row[key] for key in columns] for row in whole] == [[row[key] for key in columns] for row in broken]


def test_dropout_depends_only_on_the_number_of_the_step(tmp_path, monkeypatch):
    """A continued run has other generator states, on a GPU or in a process that does not write checkpoints."""
    quick(tmp_path / "whole", "model=conv_tasnet_light").fit()
    real = Learner.step

    def disturbed(self, *args):
        result = real(self, *args)
        torch.manual_seed(7)
        return result

    monkeypatch.setattr(Learner, "step", disturbed)
    quick(tmp_path / "disturbed", "model=conv_tasnet_light").fit()
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "disturbed")[name]), name


def test_every_process_and_step_has_different_dropout():
    draws = []
    for seed, step, process in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0), (0, 1, 0)):
        training_step.seed_step(seed, step, process)
        draws.append(float(torch.rand(())))
    assert len(set(draws)) == 4 and draws[0] == draws[-1]


def test_rows_after_the_last_checkpoint_are_removed(tmp_path, monkeypatch):
    """A run that is killed between checkpoints has logged steps that it will repeat."""
    quick(tmp_path / "whole").fit()
    real, calls = Learner.step, []

    def dies(self, *args):
        calls.append(1)
        if len(calls) == 7:
            raise RuntimeError("killed")
        return real(self, *args)

    monkeypatch.setattr(Learner, "step", dies)
    with pytest.raises(RuntimeError, match="killed"):
        quick(tmp_path / "broken").fit()
    assert len(rows(tmp_path / "broken" / "train.csv")) == 6
    monkeypatch.setattr(Learner, "step", real)
    quick(tmp_path / "broken").fit()
    steps = [row["step"] for row in rows(tmp_path / "broken" / "train.csv")]
    assert steps == [str(step) for step in range(1, 13)]
    assert [row["loss"] for row in rows(tmp_path / "broken" / "train.csv")] == [
        row["loss"] for row in rows(tmp_path / "whole" / "train.csv")
    ]


def test_a_killed_process_continues_bit_for_bit_with_the_same_command(tmp_path):
    """kill -9 at any moment: while it draws mixtures, takes a step, validates or writes a checkpoint."""
    options = ["trainer.max_steps=30", "trainer.validate_every=10", "trainer.checkpoint_minutes=0"]
    quick(tmp_path / "whole", *options).fit()
    command = [sys.executable, "-m", "separator.train", *QUICK, *options, f"run={tmp_path / 'run'}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "state.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (tmp_path / "run" / ".state.half.pt").write_bytes(b"unfinished file of a killed process")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "continuing" in done.stdout
    assert not list((tmp_path / "run").glob(".*"))
    whole, broken = (rows(tmp_path / folder / "train.csv") for folder in ("whole", "run"))
    assert [(row["step"], row["loss"]) for row in broken] == [(row["step"], row["loss"]) for row in whole]
    before = weights(tmp_path / "whole")
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path / "run").items())


def test_two_processes_give_the_same_result_as_one(tmp_path):
    """Losses, validation and weights agree up to rounding, also after an interruption. Only one process writes."""
    options = ["trainer.batch_size=4", "trainer.max_steps=4", "trainer.validate_every=2", "trainer.ema_decay=0.5"]
    quick(tmp_path / "one", *options).fit()
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    command += ["-m", "separator.train", *QUICK, *options, f"run={tmp_path / 'two'}"]
    for more in (["trainer.max_minutes=0"], []):
        done = subprocess.run([*command, *more], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert done.stdout.count("continuing") == 1
    assert done.stdout.count("step 4: validation") == 1
    for name, columns in (("train", ("step", "loss", "gradient_norm")), ("valid", ("step", "si_snri", "objective"))):
        one, two = (rows(tmp_path / folder / f"{name}.csv") for folder in ("one", "two"))
        assert len(one) == len(two)
        for first, second in zip(one, two, strict=True):
            assert [float(second[key]) for key in columns] == pytest.approx(
                [float(first[key]) for key in columns], 1e-4
            )
    one = weights(tmp_path / "one")
    assert all(torch.allclose(value, one[name], atol=1e-5) for name, value in weights(tmp_path / "two").items())


def test_a_batch_that_cannot_be_divided_is_rejected(tmp_path):
    with pytest.raises(ConfigError, match=r"trainer.batch_size=2 cannot be divided equally among 1 processes .* of 4$"):
        quick(tmp_path, "trainer.accumulate=4").fit()


@pytest.mark.parametrize("option", ["trainer.accumulate=2", "trainer.recompute=true", "trainer.num_workers=2"])
def test_settings_for_memory_and_speed_do_not_change_the_result(tmp_path, option):
    options = ["trainer.max_steps=4", "trainer.batch_size=4"]
    quick(tmp_path / "plain", *options).fit()
    run = quick(tmp_path / "other", *options, option)
    assert run.net.stack.recompute == (option == "trainer.recompute=true")
    run.fit()
    plain = weights(tmp_path / "plain")
    assert all(torch.allclose(value, plain[name], atol=2e-6) for name, value in weights(tmp_path / "other").items())


def test_gradient_checkpointing_saves_memory():
    net = separator.ConvTasNet(
        sample_rate=8000, num_filters=32, bottleneck_channels=8, hidden_channels=64, num_repeats=1
    )

    def kept():
        sizes = {}

        def pack(tensor):
            sizes[tensor.data_ptr()] = tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(1, 8000))
        return sum(sizes.values())

    before = kept()
    net.stack.recompute = True
    assert kept() < 0.5 * before


def test_models_are_kept_at_regular_steps(tmp_path):
    quick(tmp_path, "trainer.max_steps=4", "trainer.validate_every=4", "trainer.keep_every=2").fit()
    kept = sorted(path.name for path in tmp_path.glob("step-*.safetensors"))
    assert kept == ["step-0000002.safetensors", "step-0000004.safetensors"]
    last = separator.load(tmp_path / "last.safetensors").state_dict()
    for name, value in separator.load(tmp_path / kept[1]).state_dict().items():
        assert torch.equal(value, last[name])
    assert separator.load(tmp_path / kept[0]).arguments == separator.load(tmp_path / kept[1]).arguments


def test_a_background_with_speakers_is_measured_by_its_snr():
    generator = torch.Generator().manual_seed(1)
    sources = torch.randn(2, 3, 1000, generator=generator)
    sources[:, 2] *= 0.1
    estimate = sources + 0.05 * torch.randn(2, 3, 1000, generator=generator)
    item = Mixture(sources.sum(1), sources, 8000, "two")
    value = Objective("si_snr", 2)(estimate[:, [1, 0, 2]], item)
    voices = separator.si_snr(estimate[:, :2], sources[:, :2]).sum(1)
    torch.testing.assert_close(value, (voices + separator.snr(estimate[:, 2], sources[:, 2])) / 3)
    # If all sources are named, or none is, every source uses the same metric.
    torch.testing.assert_close(Objective("si_snr", 0)(estimate, item), separator.si_snr(estimate, sources).mean(1))
    torch.testing.assert_close(Objective("si_snr", 3)(estimate, item), separator.si_snr(estimate, sources).mean(1))


def test_the_average_of_the_weights_is_saved(tmp_path):
    run = quick(
        tmp_path, "trainer.ema_decay=0.9", "trainer.max_steps=3", "trainer.validate_every=3", "optimizer.lr=0.01"
    )
    start = {name: value.detach().clone() for name, value in run.net.named_parameters()}
    seen = []
    step = run.learner.step

    def watched(*args):
        result = step(*args)
        seen.append({name: value.detach().clone() for name, value in run.net.named_parameters()})
        return result

    run.learner.step = watched
    run.fit()
    kept = weights(tmp_path)
    for name, value in start.items():
        for number, after in enumerate(seen, 1):
            value = torch.lerp(value, after[name], 1 - min(0.9, (1 + number) / (10 + number)))
        assert torch.allclose(kept[name], value, atol=1e-6), name
        assert torch.equal(dict(run.net.named_parameters())[name], seen[-1][name])


def test_early_stopping_ends_a_run(tmp_path, monkeypatch):
    scores = iter([(1.0, 1.0), (3.0, 3.0), (2.0, 2.0), (2.5, 2.5), (9.0, 9.0)])
    monkeypatch.setattr(Learner, "score", lambda self, mixtures: next(scores))
    options = ["trainer.validate_every=2", "trainer.early_stop=2", "trainer.max_steps=100"]
    quick(tmp_path, *options).fit()
    assert [float(row["si_snri"]) for row in rows(tmp_path / "valid.csv")] == [1, 3, 2, 2.5]
    quick(tmp_path, *options).fit()  # the run is complete, so nothing happens
    assert len(rows(tmp_path / "train.csv")) == 8
    assert checkpoint.read_facts(tmp_path / "best.safetensors")["training"]["step"] == 4


def test_the_best_model_is_chosen_by_the_objective(tmp_path, monkeypatch):
    """SI-SNRi is not enough if sources can be silent."""
    scores = iter([(1.0, 5.0), (2.0, 4.0), (1.5, 9.0)])
    monkeypatch.setattr(Learner, "score", lambda self, mixtures: next(scores))
    quick(tmp_path).fit()
    facts = checkpoint.read_facts(tmp_path / "best.safetensors")["training"]
    assert facts["step"] == 8 and facts["valid_si_snri"] == 4.0


def test_after_a_full_disk_the_last_checkpoint_is_complete(tmp_path):
    """A limit on the file size lets `last.safetensors` be written, but not the state of the second checkpoint."""
    options = [*QUICK, f"run={tmp_path / 'run'}"]
    quick(tmp_path / "run", "trainer.max_minutes=0").fit()
    before = {name: (tmp_path / "run" / name).read_bytes() for name in ("state.pt", "last.safetensors")}
    limit = len(before["last.safetensors"]) + 1000
    assert limit < len(before["state.pt"])
    program = (
        "import resource, signal, sys; from separator.train import loop;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); loop.main()"
    )
    done = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "cannot continue" in done.stderr and "its last checkpoint is complete: free disk space" in done.stderr
    assert (tmp_path / "run" / "state.pt").read_bytes() == before["state.pt"]
    assert not list((tmp_path / "run").glob(".*"))
    quick(tmp_path / "run").fit()
    assert [row["step"] for row in rows(tmp_path / "run" / "train.csv")] == [str(step) for step in range(1, 13)]


@pytest.mark.parametrize(
    ("module", "name", "calls"),
    [("tensorboard.summary.writer.record_writer", "RecordWriter.write", 1), ("csv", "writer", 10)],
)
def test_the_error_for_a_full_disk_is_one_line_in_every_thread(tmp_path, module, name, calls):
    """TensorBoard writes in its own thread. The rows of the CSV files are written before the first checkpoint."""
    program = f"""
import errno, functools, importlib, itertools
from separator.train import loop
*places, name = {name!r}.split(".")
owner = functools.reduce(getattr, places, importlib.import_module({module!r}))
real, calls = getattr(owner, name), itertools.count(1)
def full(*arguments):
    if next(calls) >= {calls}:
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(*arguments)
setattr(owner, name, full)
loop.main()
"""
    options = [*QUICK, f"run={tmp_path / 'run'}", "trainer.log_mixtures=1"]
    done = subprocess.run([sys.executable, "-c", program, *options], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: the run in ") and done.stderr.count("\n") == 1, done.stderr
    assert "cannot continue: No space left on device; it" in done.stderr
    assert "free disk space, and run the same command to continue" in done.stderr
    quick(tmp_path / "run", "trainer.log_mixtures=1").fit()
    assert [row["step"] for row in rows(tmp_path / "run" / "train.csv")] == [str(step) for step in range(1, 13)]


def test_a_complete_run_does_not_change_and_max_minutes_stops_a_run(tmp_path):
    quick(tmp_path / "run", "trainer.max_minutes=0").fit()
    assert len(rows(tmp_path / "run" / "train.csv")) == 1
    quick(tmp_path / "run").fit()
    before = weights(tmp_path / "run")
    quick(tmp_path / "run").fit()
    assert all(torch.equal(value, before[name]) for name, value in weights(tmp_path / "run").items())
    assert len(rows(tmp_path / "run" / "train.csv")) == 12


@pytest.mark.parametrize(
    ("setting", "before", "now"), [("optimizer.lr", "0.001", "0.5"), ("trainer.max_steps", "12", "20")]
)
def test_another_configuration_does_not_continue_a_run(tmp_path, setting, before, now):
    """The error says which settings may change, and how to start from the weights with other settings."""
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["schedule=linear", "trainer.max_minutes=0"]
    quick(first, *options).fit()
    message = re.escape(f"first contains a run with {setting}={before}, but this run has {setting}={now}; only")
    remedy = rf"trainer\.max_minutes, .* may change\. Choose another name=NAME, with start_from={first}/last\.saf"
    with pytest.raises(ConfigError, match=f"{message}.*{remedy}"):
        quick(first, *options, f"{setting}={now}").fit()
    quick(second, *options, f"{setting}={now}", f"start_from={first}/last.safetensors").fit()


OLD_TARGETS = {
    "separator.train.muon.Muon": "separator.optimizers.Muon",
    "separator.train.schedules.LinearDecay": "separator.schedules.LinearDecay",
    "separator.train.trainer_settings.TrainerSettings": "separator.settings.TrainerSettings",
}


def test_a_run_continues_after_its_classes_have_moved(tmp_path):
    """Run folders contain the `_target_` of every group, and a user's own configuration may contain it too."""
    options = ["optimizer=muon", "schedule=linear"]
    quick(tmp_path / "whole", *options).fit()
    quick(tmp_path / "run", *options, "trainer.max_minutes=0").fit()
    state = checkpoint.load_state(tmp_path / "run" / "state.pt")
    for new, old in OLD_TARGETS.items():
        assert new in state["settings"]
        state["settings"] = state["settings"].replace(new, old)
    checkpoint.save_state(state, tmp_path / "run" / "state.pt")
    targets = ["optimizer._target_=separator.optimizers.Muon", "trainer._target_=separator.settings.TrainerSettings"]
    quick(tmp_path / "run", *options, *targets).fit()
    assert [row["loss"] for row in rows(tmp_path / "run" / "train.csv")] == [
        row["loss"] for row in rows(tmp_path / "whole" / "train.csv")
    ]
    with pytest.raises(ConfigError, match=r"contains a run with optimizer\._target_=separator\.train\.muon\.Muon"):
        quick(tmp_path / "run", "schedule=linear").fit()


def test_a_run_folder_without_write_permission_is_an_error(tmp_path, monkeypatch):
    quick(tmp_path, "trainer.max_minutes=0").fit()

    def lock(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(locks, "lock", lock)
    with pytest.raises(
        ConfigError, match=r"run folder .* cannot be written \(Permission denied\); choose another folder with run=DIR"
    ):
        quick(tmp_path).fit()


def test_the_error_for_a_damaged_state_names_the_file(tmp_path):
    quick(tmp_path, "trainer.max_minutes=0").fit()
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.pt: cannot resume training from it"):
        quick(tmp_path).fit()


def poison(run, monkeypatch, is_bad):
    """Put nan in the examples of a run for whose number `is_bad` is true."""
    item = type(run.train_set).__getitem__

    def poisoned(self, index):
        mixture = item(self, index)
        if self.seed == 0 and is_bad(index):
            mixture.mixture[3] = math.nan
        return mixture

    monkeypatch.setattr(type(run.train_set), "__getitem__", poisoned)


def test_a_step_that_is_not_finite_is_skipped_and_counted(tmp_path, monkeypatch):
    run = quick(tmp_path)
    poison(run, monkeypatch, lambda index: index == 10)
    run.fit()
    losses = [float(row["loss"]) for row in rows(tmp_path / "train.csv")]
    assert [math.isnan(loss) for loss in losses] == [number == 5 for number in range(12)]
    assert [row["skipped_steps"] for row in rows(tmp_path / "train.csv")] == ["0"] * 5 + ["1"] * 7
    assert all(value.isfinite().all() for value in weights(tmp_path).values())


def test_too_many_steps_in_a_row_that_are_not_finite_are_an_error_with_their_mixtures(tmp_path, monkeypatch):
    run = quick(tmp_path, "trainer.validate_every=2", "trainer.max_skips=3")
    poison(run, monkeypatch, lambda index: index >= 10)
    with pytest.raises(
        TrainingError, match=r"3 steps in a row were not .* loss of nan.*lower optimizer\.lr.*seed 0 example 14"
    ):
        run.fit()
    assert all(value.isfinite().all() for value in weights(tmp_path).values())
    assert checkpoint.load_state(tmp_path / "state.pt")["progress"]["step"] == 6


def test_recordings_that_cannot_be_read_are_skipped_counted_and_listed(tmp_path, corpus_folder):
    root = tmp_path / "voices"
    shutil.copytree(corpus_folder, root)
    for folder in root.iterdir():
        (take,) = (folder / "deep").iterdir()
        for number in range(4):  # so that one corrupt file is below the limit
            shutil.copy(take, folder / f"more{number}{take.suffix}")
    splits = split_speakers(root, 0, 0.1, 0.1)
    broken = next(iter(splits["train"].values()))[0]
    broken.write_bytes(b"RIFF not audio at all")
    options = [item for item in QUICK if not item.startswith("data.")]
    options += ["data=folder", f"data.root={root}", "data.mixing.segment_seconds=0.5", "data.valid_mixtures=1"]
    Run(compose(*options, f"run={tmp_path / 'run'}", "data.valid_seconds=0.5")).fit()
    listed = (tmp_path / "run" / "skipped.txt").read_text().splitlines()
    assert len(listed) == 1 and str(broken) in listed[0] and "cannot be read as audio" in listed[0]


def test_a_recording_that_turns_out_corrupt_during_training_is_counted(tmp_path, monkeypatch):
    run = quick(tmp_path)
    draw = type(run.train_set)._draw

    def fails(self, index, generator):
        if self.seed == 0 and index % 5 == 0 and generator.bit_generator.seed_seq.entropy[2] == 0:
            raise RecordingError(f"recording {index} is broken")
        return draw(self, index, generator)

    monkeypatch.setattr(type(run.train_set), "_draw", fails)
    run.fit()
    assert [row["skipped_recordings"] for row in rows(tmp_path / "train.csv")][-1] == "5"
    assert (tmp_path / "skipped.txt").read_text().splitlines() == [
        f"recording {index} is broken" for index in range(0, 24, 5)
    ]
    monkeypatch.setattr(loop, "MIN_EXAMPLES", 10)
    with pytest.raises(
        TrainingError, match=r"recordings could not be used 2 times in 10 examples; repair or remove the files listed"
    ):
        quick(tmp_path / "other").fit()


def test_tensorboard_has_scalars_audio_and_spectrograms(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    quick(tmp_path, "trainer.log_mixtures=1", "trainer.max_steps=2", "trainer.validate_every=2").fit()
    board = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"audio": 0, "images": 0})
    board.Reload()
    tags = board.Tags()
    assert {"train/loss", "train/learning_rate", "train/gradient_norm", "train/examples_per_second"} < set(
        tags["scalars"]
    )
    assert {"train/data_wait", "valid/si_snri"} < set(tags["scalars"])
    parts = ["mixture", *(f"speaker{number} {kind}" for number in (1, 2) for kind in ("estimate", "reference"))]
    assert sorted(tags["audio"]) == sorted(f"mixture 1/{part}" for part in parts)
    assert tags["images"] == ["mixture 1/spectrograms"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["model.num_channels=2"],
            r"model.num_channels=2, but the mixtures have data.channels=1; they must be the same",
        ),
        (["model.sources=[speech,noise]"], r"sources are speech, noise, but the data draws several voices, which"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_rejected(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        quick(tmp_path, *options)


def test_mixtures_with_a_different_number_of_sources_are_rejected(tmp_path):
    root = trees.librimix(tmp_path, 8000, "train-360")
    options = ["data=librimix", f"data.root={root}", "data.task=enh_single", "model.sample_rate=8000"]
    with pytest.raises(ConfigError, match=r"have 1 sources, but the model separates 2 .*: set model.num_sources=1"):
        Run(compose(*options, f"run={tmp_path / 'run'}"))


def test_a_run_continues_without_the_model_that_it_started_from(tmp_path):
    quick(tmp_path / "first").fit()
    options = [f"start_from={tmp_path}/first/last.safetensors"]
    quick(tmp_path / "second", *options, "trainer.max_minutes=0").fit()
    shutil.rmtree(tmp_path / "first")
    quick(tmp_path / "second", *options).fit()
    assert len(rows(tmp_path / "second" / "train.csv")) == 12


def test_a_second_process_cannot_open_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.open({"a": 1}) is None
    with pytest.raises(ConfigError, match=r"another process is training in .*run; wait for it, or choose another name"):
        RunFolder(tmp_path / "run").open({"a": 1})
    folder.close()
    folder.open({"a": 1})
    folder.close()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, None])
def test_training_works_on_a_file_system_without_locks(tmp_path, monkeypatch, number):
    """Lustre and NFS may have no locks. On Windows the module fcntl does not exist (None)."""

    def flock(*_):
        raise OSError(number, os.strerror(number))

    if number is None:
        monkeypatch.setattr(locks, "fcntl", None)
    else:
        monkeypatch.setattr(locks.fcntl, "flock", flock)
    quick(tmp_path, "trainer.max_minutes=0").fit()
    quick(tmp_path, "trainer.max_steps=12").fit()
    assert len(rows(tmp_path / "train.csv")) == 12


def test_training_needs_no_module_that_windows_lacks(tmp_path):
    program = (
        "import sys; sys.modules['fcntl'] = sys.modules['resource'] = None;"
        "from separator.io import locks; from separator.train import loop; assert locks.fcntl is None; loop.main()"
    )
    command = [sys.executable, "-c", program, *QUICK, f"run={tmp_path / 'run'}", "trainer.max_steps=4"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_torch_does_not_warn_without_a_gpu(tmp_path):
    program = "from separator.train import loop; from torch.utils import cpp_extension; cpp_extension._find_cuda_home()"
    environment = os.environ | {"CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_folder_with_other_files_is_not_changed(tmp_path):
    (tmp_path / "voice.wav").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"contains other files, but no run; choose another folder with run=DIR"):
        quick(tmp_path).fit()
    assert [path.name for path in tmp_path.iterdir()] == ["voice.wav"]


def test_a_validation_score_that_is_not_finite_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(Learner, "score", lambda self, mixtures: (math.nan, math.nan))
    with pytest.raises(TrainingError, match=r"step 4: the validation score is nan; lower optimizer.lr"):
        quick(tmp_path).fit()


def test_an_error_in_the_first_example_comes_before_any_file_is_written(tmp_path):
    for name, samples in (("a", np.full(8000, np.nan)), ("b", np.ones(8000))):
        soundfile.write(tmp_path / f"{name}.wav", samples, 8000, "FLOAT")
    (tmp_path / "list.csv").write_text("source_1,source_2\na.wav,b.wav\n")
    options = ["data=mixture_list", f"data.train={tmp_path}/list.csv", f"data.valid={tmp_path}/list.csv"]
    options += ["model.sample_rate=8000", "data.segment_seconds=0.5", f"run={tmp_path / 'run'}"]
    with pytest.raises(DataError, match=r"list\.csv entry 1: .*a\.wav: contains NaN or Inf"):
        Run(compose(*options))
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_run_can_be_loaded_as_a_model(tmp_path):
    quick(tmp_path / "run").fit()
    assert separator.Separator(tmp_path / "run").sample_rate == 8000


def test_gradients_are_clipped(tmp_path):
    run = quick(tmp_path, "trainer.clip_norm=0.001", "trainer.max_steps=1", "optimizer.lr=0")
    run.fit()
    norm = torch.cat([parameter.grad.flatten() for parameter in run.net.parameters()]).norm()
    assert float(norm) == pytest.approx(0.001, rel=1e-3)
    assert float(rows(tmp_path / "train.csv")[0]["gradient_norm"]) > 0.001


def test_the_rate_is_halved_after_stale_validations():
    schedule = schedules.Halve(patience=2, warmup_steps=4)
    assert [schedule.at(step) for step in (1, 2, 4, 5)] == [0.25, 0.5, 1, 1]
    rates = []
    for is_best in (True, False, False, False, True, False, False):
        schedule.after_validation(is_best)
        rates.append(schedule.at(9))
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25]


def test_linear_decay_has_warmup_constant_rate_and_decay():
    schedule = schedules.LinearDecay(steps=100, warmup_steps=10, decay_steps=50)
    assert [schedule.at(step) for step in (1, 5, 10, 50, 51)] == pytest.approx([0.1, 0.5, 1, 1, 1])
    assert [schedule.at(step) for step in (76, 100)] == pytest.approx([0.5, 0.02])
    with pytest.raises(ConfigError, match="from 1 to steps=10, got 0 and 11"):
        schedules.LinearDecay(steps=10, decay_steps=11)
    # A trial of two steps with a recipe that has a warm-up of ten steps.
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
        (["name=../elsewhere"], "name=../elsewhere: must be the name of a folder in runs/; use run=DIR for another"),
        (["trainer.precision=int8"], "unknown trainer.precision 'int8'"),
        (["trainer.ema_decay=1"], "trainer.ema_decay must be a number from 0 to 1, got 1"),
        (["trainer.clip_norm=-1"], "trainer.clip_norm must be a number of at least"),
        (["trainer.early_stop=0"], "trainer.early_stop must be a number of at least 1, got 0"),
        (["trainer.accelerator=gpu"], "unknown trainer.accelerator 'gpu'"),
        (["schedule.factor=3"], "schedule.factor must be a number from 0 to 1, got 3"),
        (["data.valid_mixtures=0"], "data.valid_mixtures must be a whole number of at least 1, got 0"),
        (["data/noise=generated", "data.noise.snr_db=5"], "data.noise.snr_db must be two numbers"),
        (["data/noise=generated", "data.noise.share=2"], "data.noise.share must be a number from 0 to 1, got 2"),
        (["model.num_sources=1"], "one source without noise or rooms is not a mixture"),
        (["model.num_sources=9"], "mixtures of 9 voices need 9 speakers, but train has 4; raise data.num_speakers"),
        (["trainer.batch_size=0"], "trainer.batch_size must be a whole number of at least 1, got 0"),
        (["data=folder"], "data.root has no value"),
        (["optimizer.lr=-1"], "optimizer: Invalid learning rate"),
        (["model.norm=batch"], "unknown norm 'batch'"),
    ],
)
def test_the_error_for_an_invalid_setting_names_it(tmp_path, overrides, message):
    base = [] if "data=folder" in overrides else QUICK
    with pytest.raises((ConfigError, DataError), match=message):
        Run(compose(*base, f"run={tmp_path}", *overrides))


def test_compile_accepts_the_booleans_of_yaml(tmp_path):
    settings = compose(*QUICK, f"run={tmp_path}")
    for value, name in ((False, "off"), (True, "on")):
        settings["trainer"]["compile"] = value
        assert Run(settings).trainer.compile == name


def test_a_misspelt_key_in_a_recipe_file_is_rejected(tmp_path):
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\ntrainer:\n  max_step: 5\n")
    command = [sys.executable, "-m", "separator.train", "--config-dir", str(tmp_path), "+recipe=mine", "run=run"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "error: there is no setting 'trainer.max_step'" in done.stderr and "did you mean 'max_steps'" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["+recipe=two_speaker"], "there is no recipe 'two_speaker'; choose from default_1, "),
        (["recipe=two_speakers"], "recipe has no default to replace: write +recipe=NAME"),
        (["+data/noise=generated"], "data/noise is already set: to choose another value, write data/noise=NAME with"),
        (["data=foldr"], "there is no data 'foldr'; choose from dns, folder, "),
        (["model.num_filter=5"], "no setting 'model.num_filter'; the settings are num_sources, "),
        (["data=librispeech", "data.root=x", "data.train=dev"], "data.train must be a list of one or more names, such"),
        (["data=folder", "data.root=nowhere"], "nowhere: no such folder"),
        (["data=folder"], "data.root has no value; give one with data.root=VALUE"),
        (
            ["data.valid_list=no.csv"],
            "data.valid_list=no.csv: no such file; give a list of mixtures, or set data.valid_li",
        ),
        (["data=dns"], "data.root has no value; give one with data.root=VALUE"),
    ],
)
def test_an_error_of_the_command_line_is_one_line(tmp_path, arguments, message, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["separator.train", *arguments])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main()
    text = ended.value.code  # Python prints it, and exits with 1
    assert text.startswith("error: ") and message in text and "\n" not in text
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.pt"))


RECIPES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "recipe").glob("*.yaml"))


# Recipe that needs data -> function that makes a small folder tree in its layout.
TREES = {
    "music_stems": trees.musdb,
    "libri2mix_8k": lambda folder: trees.librimix(folder, 8000, "train-360"),
    "libri2mix_16k": lambda folder: trees.librimix(folder, 16000, "train-360"),
    "wsj0_2mix": lambda folder: trees.wsj0_mix(folder, 8000),
}
# Recipe -> settings that must have exactly these values.
EXPECTED = {
    "two_speakers": {"model.mixture_consistency": True, "schedule._target_": "separator.train.schedules.LinearDecay"},
    "two_speakers_causal": {"model.causal": True, "model.norm": "channel", "model.decoder_length": 72},
    "three_speakers": {"model.num_sources": 3, "objective": "si_snr"},
    "one_to_three_speakers": {"model.num_sources": 3, "objective": "silence_safe_mean"},
    "noisy_reverberant": {"model.mixture_consistency": False, "data.rooms.target": "dry"},
    "speech_enhancement": {"model.sources": ["speech", "noise"], "data.noise.is_source": True},
    "default_1": {"optimizer._target_": "separator.train.muon.Muon", "objective": "si_snr"},
    "default_2": {"start_from": None, "data.mixing.active": [0.05, 0.95], "objective": "silence_safe_si_snr"},
    "default_long": {"model.sources": ["speaker1", "speaker2", "background"], "objective": "thresholded_si_snr"},
    "default_3": {"data.mixing.active": [0.05, 0.95], "data.mixing.segment_seconds": 4.0, "optimizer.lr": 0.0008},
    "default_causal_long": {"model.causal": True, "model.norm": "channel", "model.repeat_rates": [1, 4, 1, 4, 1]},
    "default_causal_2": {"model.causal": True, "model.norm": "channel", "model.decoder_length": 72},
    "music_stems": {"model.num_channels": 2, "data.channels": 2, "model.sample_rate": 44100},
    "libri2mix_8k": {
        "model.sample_rate": 8000, "model.filter_length": 16, "model.num_filters": 512, "model.mask": "relu",
        "data.rate": "wav8k", "data.mode": "min", "data.task": "sep_clean", "data.train": "train-360",
        "data.segment_seconds": 3.0, "data.leave_out_short": True, "objective": "si_snr", "optimizer.lr": 1e-3,
        "optimizer.weight_decay": 0.0, "schedule.patience": 5, "schedule.factor": 0.5, "trainer.batch_size": 24,
        "trainer.clip_norm": 5.0, "trainer.early_stop": 30, "trainer.precision": "float32",
    },
    "libri2mix_16k": {
        "model.sample_rate": 16000, "model.filter_length": 32, "data.rate": "wav16k", "trainer.batch_size": 6,
        "schedule.patience": 5, "trainer.early_stop": 30,
    },
    "wsj0_2mix": {
        "model.sample_rate": 8000, "model.filter_length": 16, "model.mask": "sigmoid", "model.norm": "global",
        "data.segment_seconds": 4.0, "optimizer.lr": 1e-3, "schedule.patience": 3, "trainer.clip_norm": 5.0,
    },
}  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains(tmp_path, recipe, corpus_folder):
    root = [f"data.root={TREES[recipe](tmp_path)}"] if recipe in TREES else []
    if recipe.startswith("default"):
        root = [f"data.root={corpus_folder}", "data.valid_list=null", "start_from=null"]
    if recipe.endswith("_long"):
        root += [f"data.noise.root={corpus_folder}", f"data.rooms.responses={corpus_folder}"]
    settings = compose(f"+recipe={recipe}", f"run={tmp_path / 'run'}", *root)
    flat = config.flat(settings)
    assert settings["name"].startswith(recipe)
    assert {key: flat[key] for key in EXPECTED.get(recipe, {})} == EXPECTED.get(recipe, {})
    settings["trainer"] |= {"max_steps": 2, "validate_every": 2, "compile": "off", "num_workers": 0, "log_every": 1}
    settings["trainer"] |= {"batch_size": 2, "log_mixtures": 0}
    if "steps" in settings["schedule"]:
        settings["schedule"] |= {"steps": 2, "warmup_steps": 0, "decay_steps": None}
    data = settings["data"]
    if recipe in TREES:
        data["segment_seconds"] = 0.3
    else:
        speakers = "generated_speakers" if recipe.startswith("default") else "num_speakers"
        data |= {speakers: 12, "valid_mixtures": 1, "valid_seconds": 0.5}
        data["mixing"]["segment_seconds"] = 0.5
        if data["mixing"]["corpus_shares"] is not None:
            data["mixing"]["corpus_shares"] = {"speaker0": 0.3}
        for part in ("rooms", "noise"):
            if data.get(part):
                data[part] |= {"count": 2, "cache": str(tmp_path)} if part == "rooms" else {}
        if data.get("noise") and "num_recordings" in data["noise"]:
            data["noise"]["num_recordings"] = 2
    Run(settings).fit()
    assert all(math.isfinite(float(row["loss"])) for row in rows(tmp_path / "run" / "train.csv"))
    net = separator.load(tmp_path / "run" / "best.safetensors")
    sep = separator.Separator(tmp_path / "run" / "best.safetensors")
    stems = sep.separate(0.1 * torch.randn(2, net.sample_rate // 5), net.sample_rate)
    assert list(stems) == list(net.sources) and all(stem.shape[0] == 2 for stem in stems.values())
    assert net.interchangeable == (net.sources[0] == "speaker1")


def test_every_recipe_has_a_readme():
    pages = {path.parent.name for path in (Path(__file__).parents[2] / "recipes").glob("*/README.md")}
    assert {re.sub("^(default.*)_([1-3]|plain|long|finetune)$", r"\1", recipe) for recipe in RECIPES} == pages


def test_training_works_with_a_folder_of_voices(tmp_path, corpus_folder):
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
