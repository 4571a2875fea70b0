"""The folder of a training run: its configuration, its checkpoints, and what to go on from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from separator import config
from separator.errors import CheckpointError, ConfigError, TrainingError, reason
from separator.io import atomic, locks
from separator.models import ConvTasNet
from separator.zoo import checkpoint

# What may differ when a run is continued: it changes how the work is done, not what comes out.
MAY_CHANGE = ("checkpoint_minutes", "max_minutes", "num_workers", "log_every", "log_mixtures")


class RunFolder:
    """Everything that a run leaves behind, but for its logs.

    `best.safetensors` and `last.safetensors` are models, `state.pt` is what the run goes on from; each is whole or
    absent at any moment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / "state.pt"
        self._locked: IO[bytes] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether there is a run to go on with."""
        return self._state.exists()

    def open(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """The state of a run that is to be continued; None, once the configuration is written, for a new one.

        Until `close` no other process can open it.

        Raises:
            ConfigError: if the run there has other settings, the folder holds something else or cannot be written, or
                another process trains in it.
            CheckpointError: if the state is damaged.
        """
        config_file = self.path / "config.yaml"
        if not config_file.exists() and self.path.is_dir() and any(self.path.iterdir()):
            raise ConfigError(f"{self.path} holds other files, and no run; choose another folder with run=DIR")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            if not self.is_begun:
                config_file.write_text(yaml.safe_dump(settings, sort_keys=False))
                return None
            # What a killed run was just writing.
            for name in ("best.safetensors", "last.safetensors", "state.pt", "train.csv", "valid.csv"):
                atomic.remove_unfinished(self.path / name)
        except OSError as error:
            raise ConfigError(f"run folder {self.path} cannot be written ({reason(error)}); set run=DIR") from error
        state = checkpoint.load_state(self._state)
        _refuse_other_settings(json.loads(state["settings"]), settings, self.path)
        return state

    def close(self) -> None:
        """Lets others open it."""
        if self._locked is not None:
            self._locked.close()
            self._locked = None

    def _lock(self) -> None:
        self._locked = (self.path / "config.yaml").open("ab")
        try:
            locks.lock(self._locked, wait=False)
        except BlockingIOError as error:
            self.close()
            raise ConfigError(
                f"another process is training in {self.path}; wait for it, or choose another name=NAME"
            ) from error

    def save_best(self, net: ConvTasNet, facts: dict[str, Any]) -> None:
        """Writes `best.safetensors`."""
        with self.told():
            checkpoint.save(net, self.path / "best.safetensors", facts)

    def keep(self, net: ConvTasNet, step: int, facts: dict[str, Any]) -> None:
        """Writes `step-NUMBER.safetensors`, which stays."""
        with self.told():
            checkpoint.save(net, self.path / f"step-{step:07d}.safetensors", facts)

    def save_last(self, net: ConvTasNet, facts: dict[str, Any]) -> None:
        """Writes `last.safetensors`."""
        with self.told():
            checkpoint.save(net, self.path / "last.safetensors", facts)

    def save_state(self, state: dict[str, Any], settings: dict[str, Any]) -> None:
        """Writes what to go on from."""
        with self.told():
            checkpoint.save_state(state | {"settings": json.dumps(settings)}, self._state)

    def list_skipped(self, texts: list[str]) -> None:
        """Adds to `skipped.txt` what is not in it yet."""
        path = self.path / "skipped.txt"
        known = set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()
        new = [text for text in dict.fromkeys(" ".join(text.split()) for text in texts) if text not in known]
        if new:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(f"{text}\n" for text in new)

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Within, what cannot be written says what is left: the last checkpoint."""
        try:
            yield
        except (OSError, CheckpointError) as error:
            left = "its last checkpoint is whole" if self.is_begun else "it has no checkpoint yet"
            raise TrainingError(
                f"the run in {self.path} cannot go on: {reason(error) if isinstance(error, OSError) else error}; "
                f"{left}: make room, and the same command goes on from there"
            ) from error


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raises `ConfigError` naming the first setting in which a continued run would differ, and what may differ."""
    old, new = _current(before), _current(now)
    # The number of steps first: others, such as those of a schedule, follow from it.
    for key in ["trainer.max_steps", *old, *new]:
        if old.get(key) != new.get(key) and key.removeprefix("trainer.") not in MAY_CHANGE:
            raise ConfigError(
                f"{folder} holds a run with {key}={old.get(key)}, this one has {key}={new.get(key)}; only "
                f"{', '.join(f'trainer.{name}' for name in MAY_CHANGE)} may change. Choose another name=NAME, with "
                f"start_from={folder / 'last.safetensors'} to go on from its weights, or remove the folder to start "
                "anew"
            )


def _current(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by their full names, each `_target_` where it is now."""
    return {
        key: config.current_target(value) if key.endswith("_target_") else value
        for key, value in config.flat(settings).items()
    }
