"""The training loop: `python -m separator.train +recipe=NAME`.

A run has one folder. The same command continues it from its last checkpoint. Every example depends only on the seed and
its number, so the result is the same as without the interruption. Under `torchrun` a run is divided among processes.
This changes only the time that it takes.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from separator import config
from separator.data import Mixture, MixtureData, check_shares, load_batches
from separator.errors import ConfigError, TrainingError, check_whole
from separator.models import ConvTasNet
from separator.train.distributed import compile_network, launch, shut_down
from separator.train.growth import start_from
from separator.train.logs import RunLog
from separator.train.run_folder import RunFolder
from separator.train.trainer_settings import TrainerSettings
from separator.train.training_step import Learner, Objective, Step, seed_step

log = logging.getLogger("separator.train")

SETTINGS = ("name", "run", "seed", "start_from", "objective", "model", "data", "optimizer", "schedule", "trainer")
# Largest share of recordings that cannot be read, relative to the examples. It applies from MIN_EXAMPLES examples on.
MAX_SKIPPED_RECORDINGS = 0.1
MIN_EXAMPLES = 200


@dataclass
class Progress:
    """Progress of a run, saved in its checkpoint. Scores are in dB."""

    step: int = 0
    best_score: float = -math.inf
    best_si_snri: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    skipped_steps: int = 0
    skipped_recordings: int = 0
    is_complete: bool = False
    curve: list[tuple[int, float]] = field(default_factory=list)


class Run:
    """One training run. `settings` is the resolved configuration."""

    def __init__(self, settings: dict[str, Any]) -> None:
        config.refuse_unknown(settings, SETTINGS, "")
        self.settings = settings
        name = Path(str(settings["name"]))
        if name.is_absolute() or ".." in name.parts:
            raise ConfigError(f"name={name}: must be the name of a folder in runs/; use run=DIR for another folder")
        self.folder = RunFolder(Path(settings["run"]))
        self.trainer: TrainerSettings = config.build(settings["trainer"], "trainer")
        check_whole("seed", settings["seed"], least=0)
        torch.manual_seed(settings["seed"])
        self.net: ConvTasNet = config.build(settings["model"], "model")
        objective = Objective(settings["objective"], self.net.num_interchangeable)
        data = config.build(settings["data"], "data")
        self.train_set: Dataset = data.training(self.net.sample_rate, self.net.sources, settings["seed"])
        self.valid_set: Dataset = data.validation(self.net.sample_rate, self.net.sources, settings["seed"])
        self.optimizer = config.build(settings["optimizer"], "optimizer", self.net.named_parameters())
        self.schedule = config.build(settings["schedule"], "schedule")
        self.progress = Progress()
        _check_fit(self.net, data, self.train_set)
        if settings["start_from"] is not None and not self.folder.is_begun:
            start_from(self.net, settings["start_from"])
        self.net.stack.recompute = self.trainer.recompute
        self.fabric = launch(self.trainer)
        check_shares(self.trainer.batch_size, self.fabric.world_size, self.trainer.accumulate)
        self.learner = Learner(
            *(self.fabric, self.net, compile_network(self.net, self.trainer.compile)),
            *(self.optimizer, objective, self.trainer),
        )
        self._is_writer = self.fabric.is_global_zero
        self._run_log: RunLog | None = None
        self._skipped: list[str] = list(getattr(self.train_set, "skipped", ()))
        parameters = sum(parameter.numel() for parameter in self.net.parameters())
        self._log(
            "%s: %.2f million parameters on %s in %s, %d process%s; training on %s, validating on %d mixtures",
            *(settings["name"], parameters / 1e6, self.fabric.device.type, self.learner.precision),
            *(self.fabric.world_size, "es" * (self.fabric.world_size > 1), self.train_set, len(self.valid_set)),
        )

    def fit(self) -> None:
        """Train up to `max_steps`, or until validations no longer improve (early stopping).

        Raises:
            ConfigError: if the folder contains a run with other settings, or cannot be written.
            TrainingError: if the loss is not finite for too many steps, if too many recordings cannot be read, or if
                the disk is full.
        """
        try:
            self._resume()
            if self.progress.is_complete:
                self._log("%s is complete: best SI-SNRi %.2f dB", self.folder.path, self.progress.best_si_snri)
            else:
                self._train()
        finally:
            self.folder.close()

    def _train(self) -> None:
        torch.set_float32_matmul_precision("high")
        bar = tqdm(
            total=self.trainer.max_steps,
            initial=self.progress.step,
            unit="step",
            smoothing=0.05,
            dynamic_ncols=True,
            disable=None if self._is_writer else True,  # on a terminal only
        )
        try:
            if self._is_writer:
                with self.folder.explain_write_errors():
                    self._run_log = RunLog(self.folder.path, self.progress.step)
            self._loop(bar)
        finally:
            bar.close()
            if self._run_log is not None:
                with self.folder.explain_write_errors():
                    self._run_log.close()

    def _loop(self, bar: tqdm) -> None:
        progress, trainer = self.progress, self.trainer
        started, base_seconds = time.monotonic(), progress.seconds
        saved, logged, waited = started, started, 0.0
        batches = self._batches()
        self._list_skipped()
        while not progress.is_complete:
            asked = time.monotonic()
            parts = next(batches)
            waited += time.monotonic() - asked
            progress.step += 1
            rate = self.settings["optimizer"]["lr"] * self.schedule.at(progress.step)
            seed_step(self.settings["seed"], progress.step, self.fabric.global_rank)
            step = self.learner.step(parts, rate)
            self._count(step, parts)
            bar.update()
            now = time.monotonic()
            progress.seconds = base_seconds + now - started
            if progress.step % trainer.log_every == 0:
                self._log_step(step, rate, now - logged, waited)
                bar.set_postfix(loss=f"{step.loss:.2f}", best=f"{progress.best_si_snri:.2f}")
                logged, waited = now, 0.0
            if trainer.keep_every is not None and progress.step % trainer.keep_every == 0 and self._is_writer:
                with self.learner.best_weights():
                    self.folder.keep(self.net, progress.step, self._facts())
            progress.is_complete = progress.step == trainer.max_steps
            if progress.is_complete or progress.step % trainer.validate_every == 0:
                self._validate(bar)
                self._save()
                saved = logged = time.monotonic()
                waited = 0.0
            elif now - saved > 60 * trainer.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
            if not progress.is_complete and self._is_time_up(started):
                self._save()
                self._log("stopped after %g minutes; run the same command to continue", trainer.max_minutes)
                return

    def _count(self, step: Step, parts: list[Mixture]) -> None:
        """Count skipped steps and recordings. Raises `TrainingError` if too many recordings cannot be read."""
        progress = self.progress
        progress.skipped_steps += step.is_skipped
        progress.skipped_recordings += step.skipped_recordings
        self._skipped += [text for part in parts for text in part.skipped]
        examples = progress.step * self.trainer.batch_size
        if examples >= MIN_EXAMPLES and progress.skipped_recordings > MAX_SKIPPED_RECORDINGS * examples:
            self._list_skipped()
            raise TrainingError(
                f"recordings could not be used {progress.skipped_recordings} times in {examples} examples; repair or "
                f"remove the files listed in {self.folder.path / 'skipped.txt'}"
            )

    def _log_step(self, step: Step, rate: float, seconds: float, waited: float) -> None:
        self._list_skipped()
        self._write(
            "train",
            {
                "loss": step.loss,
                "learning_rate": rate,
                "gradient_norm": step.norm,
                "skipped_steps": self.progress.skipped_steps,
                "skipped_recordings": self.progress.skipped_recordings,
                "examples_per_second": self.trainer.log_every * self.trainer.batch_size / seconds,
                "data_wait": waited / seconds,
            },
        )

    def _validate(self, bar: tqdm) -> None:
        self._list_skipped()
        progress = self.progress
        with self.learner.best_weights():
            score, si_snri = self.learner.score(self.valid_set)
            if not math.isfinite(score):
                raise TrainingError(
                    f"step {progress.step}: the validation score is {score}; lower optimizer.lr or use "
                    "trainer.precision=float32"
                )
            is_best = score > progress.best_score
            self._write("valid", {"si_snri": si_snri, "objective": score, "minutes": progress.seconds / 60})
            self.schedule.after_validation(is_best)
            progress.curve.append((progress.step, round(si_snri, 3)))
            if is_best:
                progress.best_score, progress.best_si_snri, progress.best_step = score, si_snri, progress.step
            if is_best and self._is_writer:
                self.folder.save_best(self.net, self._facts())
                self._show_mixtures()
        stale = (progress.step - progress.best_step) // self.trainer.validate_every
        is_stale = self.trainer.early_stop is not None and stale >= self.trainer.early_stop
        progress.is_complete = progress.is_complete or is_stale
        if not self._is_writer:
            return
        messages = [f"step {progress.step}: validation SI-SNRi {si_snri:.2f} dB"]
        if not is_best:
            messages[0] += f" (best {progress.best_si_snri:.2f} at step {progress.best_step})"
        if is_stale:
            messages.append(f"stopping early: no improvement for {stale} validations")
        if progress.skipped_steps:
            messages.append(f"{progress.skipped_steps} steps skipped")
        if progress.skipped_recordings:
            messages.append(f"{progress.skipped_recordings} recordings skipped, see skipped.txt")
        bar.write("; ".join(messages))
        assert self._run_log is not None
        with self.folder.explain_write_errors():
            self._run_log.draw()

    def _show_mixtures(self) -> None:
        """Write the first validation mixtures to TensorBoard, with their references and estimates."""
        assert self._run_log is not None
        for index in range(min(self.trainer.log_mixtures, len(self.valid_set))):  # type: ignore[arg-type]
            item = self.valid_set[index]
            parts = {"mixture": item.mixture}
            for name, source, stem in zip(self.net.sources, item.sources, self.learner.separate(item), strict=True):
                parts |= {f"{name} estimate": stem, f"{name} reference": source}
            with self.folder.explain_write_errors():
                self._run_log.add_mixture(f"mixture {index + 1}", self.progress.step, parts, item.sample_rate)

    def _batches(self) -> Iterator[list[Mixture]]:
        """This process's parts of each batch, from the next step to the last step."""
        return load_batches(
            self.train_set,
            self.trainer.batch_size,
            range(self.progress.step, self.trainer.max_steps),
            self.trainer.num_workers,
            self.trainer.accumulate,
            self.fabric.global_rank,
            self.fabric.world_size,
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "step": self.progress.step,
            "minutes": round(self.progress.seconds / 60, 1),
            "valid_si_snri": self.progress.curve[-1][1] if self.progress.curve else None,
            "settings": self.settings,
        }

    def _save(self) -> None:
        """Save a checkpoint. Only the writer process does it, so nothing here may wait for other processes."""
        if not self._is_writer:
            return
        with self.learner.best_weights():
            self.folder.save_last(self.net, self._facts())
        state = {"schedule": vars(self.schedule), "progress": vars(self.progress)}
        self.folder.save_state(self.learner.state() | state, self.settings)

    def _resume(self) -> None:
        """Continue the run in the folder, if there is one."""
        # Only one process reads the folder: the others may be on machines without access to it.
        state = self.folder.open(self.settings) if self._is_writer else None
        state = self.fabric.broadcast(state)
        if state is None:
            return
        self.learner.restore(state)
        vars(self.schedule).update(state["schedule"])
        self.progress = Progress(**state["progress"])
        self._log("continuing %s at step %d", self.folder.path, self.progress.step)

    def _list_skipped(self) -> None:
        """Add the recordings that could not be used to `skipped.txt`, from all processes."""
        texts, self._skipped = self.learner.gather(self._skipped), []
        if self._is_writer and texts:
            with self.folder.explain_write_errors():
                self.folder.list_skipped(texts)

    def _write(self, name: str, values: dict[str, float]) -> None:
        if self._run_log is not None:
            with self.folder.explain_write_errors():
                self._run_log.add(name, self.progress.step, values)

    def _is_time_up(self, started: float) -> bool:
        if self.trainer.max_minutes is None:
            return False
        # The clocks of the processes may differ, but all must stop at the same step.
        return self.fabric.broadcast(time.monotonic() - started > 60 * self.trainer.max_minutes)

    def _log(self, message: str, *values: object) -> None:
        if self._is_writer:
            log.info(message, *values)


def _check_fit(net: ConvTasNet, data: MixtureData, mixtures: Dataset) -> None:
    """Raise `ConfigError` if the network does not fit the data."""
    if net.num_channels != (data.channels or 1):
        raise ConfigError(
            f"model.num_channels={net.num_channels}, but the mixtures have data.channels={data.channels or 1}; "
            "they must be the same"
        )
    mixtures[0]  # an error in every mixture is then raised now
    if not net.interchangeable and getattr(mixtures, "num_voices", 1) > 1:
        raise ConfigError(
            f"model.sources are {', '.join(net.sources)}, but the data draws several voices, which are not among these "
            "names: leave model.sources out, or make the noise a source (data.noise.is_source=true)"
        )


def main() -> None:
    """Run the command line."""

    def train(settings: dict[str, Any]) -> None:
        run = Run(settings)
        run.fit()
        fabric = run.fabric
        del run
        shut_down(fabric)

    config.command(train)
