"""`python -m separator.train +recipe=NAME`: from a configuration to a checkpoint.

A run lives in one folder. Started again with the same command it goes on from its last checkpoint, and since
every example follows from the seed and its number, as if it had never stopped.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from separator import checkpoint, config, objectives, zoo
from separator.data import Mixture, collate
from separator.errors import ConfigError, TrainingError, check_whole, choose
from separator.logs import RunLog
from separator.models import ConvTasNet

log = logging.getLogger("separator.train")

OBJECTIVES = {"si_snr": objectives.si_snr, "snr": objectives.snr}
SETTINGS = ("name", "run", "seed", "start_from", "objective", "model", "data", "optimizer", "schedule", "trainer")
# What may differ when a run is continued: it changes how the work is done, not what comes out.
MAY_CHANGE = ("checkpoint_minutes", "max_minutes", "num_workers", "log_every")


@dataclass(frozen=True)
class TrainerSettings:
    """The `trainer` group of the configuration.

    Attributes:
        max_steps: optimizer steps in all.
        batch_size: mixtures in a step.
        clip_norm: the gradient is scaled down to at most this norm.
        validate_every: steps between validations.
        log_every: steps between rows of `train.csv`.
        checkpoint_minutes: minutes between checkpoints, beside the one after every validation.
        max_minutes: stop after so many minutes, with a checkpoint to continue from; null for never.
        precision: "float32", or "bfloat16" for the products (norms, filterbank and loss stay float32).
        accelerator: "auto", "cpu", "cuda" or "mps".
        compile: "auto" compiles the network if a compiler is there, "on" demands it, "off" does not.
        num_workers: processes that draw mixtures; 0 draws them between the steps.
    """

    max_steps: int
    batch_size: int = 8
    clip_norm: float = 5.0
    validate_every: int = 500
    log_every: int = 20
    checkpoint_minutes: float = 5.0
    max_minutes: float | None = None
    precision: str = "float32"
    accelerator: str = "auto"
    compile: str = "auto"
    num_workers: int = 1


@dataclass
class Progress:
    """How far a run has come; part of its checkpoint."""

    step: int = 0
    best_si_snri: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0
    curve: list[tuple[int, float]] = field(default_factory=list)


class Run:
    """One training run, from the resolved configuration `settings`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        config.refuse_unknown(settings, SETTINGS, "")
        self.settings = settings
        self.folder = Path(settings["run"])
        self.trainer: TrainerSettings = config.build(settings["trainer"], "trainer")
        choose("trainer.precision", self.trainer.precision, {"float32": None, "bfloat16": None})
        self.metric = choose("objective", settings["objective"], OBJECTIVES)
        check_whole("seed", settings["seed"], least=0)
        torch.manual_seed(settings["seed"])
        self.net: ConvTasNet = config.build(settings["model"], "model")
        data = config.build(settings["data"], "data")
        self.train_set: Dataset = data.training(self.net.sample_rate, self.net.sources, settings["seed"])
        self.valid_set: Dataset = data.validation(self.net.sample_rate, self.net.sources, settings["seed"])
        self.optimizer = config.build(settings["optimizer"], "optimizer", self.net.parameters())
        self.schedule = config.build(settings["schedule"], "schedule")
        self.progress = Progress()

    def fit(self) -> None:
        """Trains up to `max_steps`; raises `TrainingError` if the loss or the gradient is no longer finite."""
        self._resume()
        if self.progress.step >= self.trainer.max_steps:
            log.info("%s is complete: best SI-SNRi %.2f dB", self.folder, self.progress.best_si_snri)
            return
        torch.set_float32_matmul_precision("high")
        # Not with its own mixed precision, which would round the waveforms too.
        fabric = Fabric(accelerator=self.trainer.accelerator, devices=1)
        net, optimizer = fabric.setup(_compiled(self.net, self.trainer.compile), self.optimizer)
        run_log = RunLog(self.folder, self.progress.step)
        bar = tqdm(
            total=self.trainer.max_steps,
            initial=self.progress.step,
            unit="step",
            smoothing=0.05,
            dynamic_ncols=True,
            disable=None,  # on a terminal only
        )
        try:
            self._loop(fabric, net, optimizer, run_log, bar)
        finally:
            bar.close()
            run_log.close()

    def _loop(self, fabric: Fabric, net: nn.Module, optimizer: Any, run_log: RunLog, bar: tqdm) -> None:
        progress, trainer = self.progress, self.trainer
        started, base_seconds = time.monotonic(), progress.seconds
        saved, logged, waited = started, started, 0.0
        batches = iter(self._batches())
        while progress.step < trainer.max_steps:
            asked = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - asked
            progress.step += 1
            rate = self._learning_rate()
            loss, norm = self._step(fabric, net, optimizer, batch, rate)
            bar.update()
            now = time.monotonic()
            progress.seconds = base_seconds + now - started
            if progress.step % trainer.log_every == 0:
                values = {"loss": loss, "learning_rate": rate, "gradient_norm": norm}
                values["examples_per_second"] = trainer.log_every * trainer.batch_size / (now - logged)
                values["data_wait"] = waited / (now - logged)
                run_log.add("train", progress.step, values)
                bar.set_postfix(loss=f"{loss:.2f}", best=f"{progress.best_si_snri:.2f}")
                logged, waited = now, 0.0
            is_last = progress.step == trainer.max_steps
            if is_last or progress.step % trainer.validate_every == 0:
                self._validate(fabric, run_log, bar)
                self._save()
                saved = logged = time.monotonic()
            elif now - saved > 60 * trainer.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
            if trainer.max_minutes is not None and now - started > 60 * trainer.max_minutes and not is_last:
                self._save()
                log.info("stopped after %g minutes; the same command goes on", trainer.max_minutes)
                return

    def _step(self, fabric: Fabric, net: nn.Module, optimizer: Any, batch: Mixture, rate: float) -> tuple[float, float]:
        """One optimizer step; returns the loss and the norm of the gradient before clipping."""
        for group in optimizer.param_groups:
            group["lr"] = rate
        mixture, sources = fabric.to_device((batch.mixture, batch.sources))
        with self._autocast(fabric):
            estimate = net(mixture)
        loss = -objectives.pit(self.metric, estimate, sources)[0].mean()
        optimizer.zero_grad()
        fabric.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), self.trainer.clip_norm)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise TrainingError(
                f"step {self.progress.step}: the loss is {loss.item()} and its gradient's norm {norm.item()}. "
                f"The last good checkpoint is in {self.folder}; lower optimizer.lr or use trainer.precision=float32. "
                f"The step's mixtures: {batch.name}"
            )
        optimizer.step()
        return loss.item(), norm.item()

    def _autocast(self, fabric: Fabric) -> torch.autocast:
        return torch.autocast(fabric.device.type, torch.bfloat16, enabled=self.trainer.precision == "bfloat16")

    def _learning_rate(self) -> float:
        return self.settings["optimizer"]["lr"] * self.schedule.at(self.progress.step)

    def _validate(self, fabric: Fabric, run_log: RunLog, bar: tqdm) -> None:
        scores = self._score(fabric)
        score = float(scores.mean())
        progress = self.progress
        is_best = score > progress.best_si_snri
        run_log.add("valid", progress.step, {"si_snri": score, "minutes": progress.seconds / 60})
        self.schedule.after_validation(is_best)
        progress.curve.append((progress.step, round(score, 3)))
        if is_best:
            progress.best_si_snri, progress.best_step = score, progress.step
            checkpoint.save(self.net, self.folder / "best.safetensors", self._facts())
        bar.write(
            f"step {progress.step}: validation SI-SNRi {score:.2f} dB"
            + ("" if is_best else f" (best {progress.best_si_snri:.2f} at step {progress.best_step})")
        )
        run_log.draw()

    @torch.no_grad()
    def _score(self, fabric: Fabric) -> Tensor:
        """SI-SNRi of each validation mixture, `[mixture]`."""
        self.net.eval()
        scores = []
        for index in range(len(self.valid_set)):  # type: ignore[arg-type]
            item = self.valid_set[index]
            mixture, sources = fabric.to_device((item.mixture[None], item.sources[None]))
            with self._autocast(fabric):
                estimate = self.net(mixture)
            scores.append(objectives.si_snr_improvement(estimate, sources, mixture).cpu())
        self.net.train()
        return torch.cat(scores)

    def _batches(self) -> DataLoader:
        """Batches from the next step's to the last one's."""
        size = self.trainer.batch_size
        return DataLoader(
            self.train_set,
            batch_size=size,
            sampler=range(self.progress.step * size, self.trainer.max_steps * size),
            collate_fn=collate,
            num_workers=self.trainer.num_workers,
            prefetch_factor=4 if self.trainer.num_workers else None,
            # The workers' order of arrival and their random state play no part: an example's number says all.
            generator=torch.Generator(),
        )

    def _facts(self) -> dict[str, Any]:
        return {
            "step": self.progress.step,
            "minutes": round(self.progress.seconds / 60, 1),
            "valid_si_snri": self.progress.curve[-1][1] if self.progress.curve else None,
            "settings": self.settings,
        }

    def _save(self) -> None:
        checkpoint.save(self.net, self.folder / "last.safetensors", self._facts())
        state = {
            "settings": json.dumps(self.settings),
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": vars(self.schedule),
            "progress": vars(self.progress),
            "random": torch.get_rng_state(),
        }
        checkpoint.save_state(state, self.folder / "state.pt")

    def _resume(self) -> None:
        """Takes up the run in the folder, if there is one; writes the resolved configuration if not."""
        path = self.folder / "state.pt"
        if not path.exists():
            if self.settings["start_from"] is not None:
                _start_from(self.net, self.settings["start_from"])
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                (self.folder / "config.yaml").write_text(yaml.safe_dump(self.settings, sort_keys=False))
            except OSError as error:
                raise ConfigError(
                    f"run folder {self.folder} cannot be written ({error.strerror}); set run=DIR"
                ) from error
            return
        state = checkpoint.load_state(path)
        _refuse_other_settings(json.loads(state["settings"]), self.settings, self.folder)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        vars(self.schedule).update(state["schedule"])
        self.progress = Progress(**state["progress"])
        torch.set_rng_state(state["random"])
        log.info("continuing %s at step %d", self.folder, self.progress.step)


def _start_from(net: ConvTasNet, model: str) -> None:
    """Gives `net` the weights of another model; raises `ConfigError` naming the first argument that it differs in."""
    other = checkpoint.load(zoo.find(model))
    for name, value in net.arguments.items():
        if other.arguments[name] != value and name != "sources":
            raise ConfigError(
                f"start_from={model}: it has model.{name}={other.arguments[name]}, this run has {value}; "
                "only a network of the same sizes can take its weights"
            )
    net.load_state_dict(other.state_dict())


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raises `ConfigError` naming the first setting in which a continued run would differ."""
    old, new = config.flat(before), config.flat(now)
    for key in [*old, *new]:
        if old.get(key) != new.get(key) and key.removeprefix("trainer.") not in MAY_CHANGE:
            raise ConfigError(
                f"{folder} holds a run with {key}={old.get(key)}, this one has {key}={new.get(key)}: "
                "choose another name=NAME, or remove the folder to start anew"
            )


def _compiled(net: nn.Module, setting: str) -> nn.Module:
    choose("trainer.compile", setting, {"auto": None, "on": None, "off": None})
    if setting == "off":
        return net
    if setting == "auto" and not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        log.info("no C++ compiler found: training without torch.compile, at about half the speed")
        return net
    return torch.compile(net)  # type: ignore[return-value]


def main() -> None:
    """The command line."""
    config.command(lambda settings: Run(settings).fit())


if __name__ == "__main__":
    main()
