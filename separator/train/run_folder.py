"""The folder of a training run: its configuration, its models, and the state to continue from."""

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

# Settings of `trainer` that may change when a run is continued. They do not change the result.
MAY_CHANGE = ("checkpoint_minutes", "max_minutes", "num_workers", "log_every", "log_mixtures")


class RunFolder:
    """All files of a run, except its logs.

    `best.safetensors` and `last.safetensors` are models. `state.pt` is the state to continue from. At any time, each
    file is either complete or absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = path / "state.pt"
        self._locked: IO[bytes] | None = None

    @property
    def is_begun(self) -> bool:
        """Whether the folder has a run to continue."""
        return self._state.exists()

    def open(self, settings: dict[str, Any]) -> dict[str, Any] | None:
        """Open the folder and lock it for other processes until `close`.

        Returns:
            The state of the run to continue. None for a new run, after its configuration is written.

        Raises:
            ConfigError: if the folder contains a run with other settings or other files, if it cannot be written, or
                if another process trains in it.
            CheckpointError: if the state is damaged.
        """
        config_file = self.path / "config.yaml"
        if not config_file.exists() and self.path.is_dir() and any(self.path.iterdir()):
            raise ConfigError(f"{self.path} contains other files, but no run; choose another folder with run=DIR")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            if not self.is_begun:
                config_file.write_text(yaml.safe_dump(settings, sort_keys=False))
                return None
            # Temporary files of a killed run.
            for name in ("best.safetensors", "last.safetensors", "state.pt", "train.csv", "valid.csv"):
                atomic.remove_unfinished(self.path / name)
        except OSError as error:
            raise ConfigError(
                f"run folder {self.path} cannot be written ({reason(error)}); choose another folder with run=DIR"
            ) from error
        state = checkpoint.load_state(self._state)
        _refuse_other_settings(json.loads(state["settings"]), settings, self.path)
        return state

    def close(self) -> None:
        """Unlock the folder."""
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
        """Write `best.safetensors`."""
        with self.explain_write_errors():
            checkpoint.save(net, self.path / "best.safetensors", facts)

    def keep(self, net: ConvTasNet, step: int, facts: dict[str, Any]) -> None:
        """Write `step-NUMBER.safetensors`, which is never replaced."""
        with self.explain_write_errors():
            checkpoint.save(net, self.path / f"step-{step:07d}.safetensors", facts)

    def save_last(self, net: ConvTasNet, facts: dict[str, Any]) -> None:
        """Write `last.safetensors`."""
        with self.explain_write_errors():
            checkpoint.save(net, self.path / "last.safetensors", facts)

    def save_state(self, state: dict[str, Any], settings: dict[str, Any]) -> None:
        """Write `state.pt`, the state to continue from."""
        with self.explain_write_errors():
            checkpoint.save_state(state | {"settings": json.dumps(settings)}, self._state)

    def list_skipped(self, texts: list[str]) -> None:
        """Add lines to `skipped.txt`, except lines that it already has."""
        path = self.path / "skipped.txt"
        known = set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()
        new = [text for text in dict.fromkeys(" ".join(text.split()) for text in texts) if text not in known]
        if new:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(f"{text}\n" for text in new)

    @contextlib.contextmanager
    def explain_write_errors(self) -> Iterator[None]:
        """Raise a write error as `TrainingError` that says whether there is a checkpoint to continue from."""
        try:
            yield
        except (OSError, CheckpointError) as error:
            state = "its last checkpoint is complete" if self.is_begun else "it has no checkpoint yet"
            raise TrainingError(
                f"the run in {self.path} cannot continue: {reason(error) if isinstance(error, OSError) else error}; "
                f"{state}: free disk space, and run the same command to continue from there"
            ) from error


def _refuse_other_settings(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    """Raise `ConfigError` for the first setting that must not change in a continued run."""
    old, new = _current(before), _current(now)
    # The number of steps is checked first: other settings, such as those of a schedule, depend on it.
    for key in ["trainer.max_steps", *old, *new]:
        if old.get(key) != new.get(key) and key.removeprefix("trainer.") not in MAY_CHANGE:
            raise ConfigError(
                f"{folder} contains a run with {key}={old.get(key)}, but this run has {key}={new.get(key)}; only "
                f"{', '.join(f'trainer.{name}' for name in MAY_CHANGE)} may change. Choose another name=NAME, with "
                f"start_from={folder / 'last.safetensors'} to start from its weights, or remove the folder to start "
                "again"
            )


def _current(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by their full names, with every `_target_` in its present place."""
    return {
        key: config.current_target(value) if key.endswith("_target_") else value
        for key, value in config.flat(settings).items()
    }
