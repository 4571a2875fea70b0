"""Build objects from Hydra's configuration, and reject unknown settings.

Hydra accepts a misspelt key in a recipe file without an error. So every group of the configuration has exactly the
arguments of one constructor, and every key is checked against the constructor's signature.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from separator.errors import ConfigError, SeparatorError, suggestion

# Old `_target_` -> new `_target_`. Run folders and users' own configurations still contain the old ones.
MOVED = {
    "separator.data.sequences.": "separator.study.tasks.",
    "separator.evaluate.EvaluationData": "separator.evaluate.evaluation.EvaluationData",
    "separator.optimizers.": "separator.train.muon.",
    "separator.schedules.": "separator.train.schedules.",
    "separator.settings.": "separator.train.trainer_settings.",
    "separator.study.StackNetwork": "separator.study.networks.StackNetwork",
    "separator.study.TCNNetwork": "separator.study.networks.TCNNetwork",
}


def config_directory() -> str:
    """Path of `conf/`: inside the installed package, or next to the package in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parent / "conf")


def command(run: Callable[[dict[str, Any]], None], folder: str = "") -> None:
    """Run a program with a `config.yaml` and the command line. An error is printed in one line, with exit code 1.

    Args:
        run: the program. It gets the resolved settings.
        folder: folder in `conf/` with the `config.yaml` (default: `conf/` itself). A program whose keys have the name
            of a group needs its own folder: with a folder `model/`, `model=NAME` chooses a file.
    """
    # Without this, Hydra prints errors in many lines and exits by itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def task(config: DictConfig) -> None:
        try:
            run(resolve(config))
        except SeparatorError as error:  # handled here, because Hydra would add a line
            sys.exit(f"error: {error}")

    try:
        hydra.main(version_base="1.3", config_path=str(Path(config_directory(), folder)), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {_explain(error, folder, sys.argv[1:])}")
    except KeyboardInterrupt:
        sys.exit(130)


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Settings of a training with these command-line overrides.

    Raises:
        ConfigError: if the training would reject the overrides.
    """
    # Hydra does not start again inside a program that it has started.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
            return resolve(hydra.compose("config", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explain(error, "", overrides)) from error
    finally:
        GlobalHydra.instance().hydra = outer


def _explain(error: Exception, folder: str, overrides: Sequence[str]) -> str:
    """Plain message for Hydra's error about an unknown setting or file. Other errors are put in one line."""
    text = " ".join(str(error).split())
    if found := re.search(r"Could not override '([\w.@/]+)'", text):
        name = found[1]
        if Path(config_directory(), folder, name).is_dir():  # a group without a default, such as recipe
            return f"{name} has no default to replace: write +{name}=NAME"
        settings = _settings(
            folder, [item for item in overrides if re.match(r"\+?[\w/@]+=", item) and item.partition("=")[0] != name]
        )
        known = [key for key in settings if key.rpartition(".")[0] == name.rpartition(".")[0]]
        options_text = f"; the settings are {', '.join(key.rpartition('.')[2] for key in known)}" if known else ""
        return f"there is no setting {name!r}{options_text}{suggestion(name, known or settings)}"
    if found := re.search(r"Multiple values for ([\w/]+)", text):
        return f"{found[1]} is already set: to choose another value, write {found[1]}=NAME without the +"
    if found := re.search(r"Could not find '([\w./-]+)'", text):
        group, _, name = found[1].rpartition("/")
        options = (
            text.partition("Available options in ")[2].partition(":")[2].partition(" Config search path")[0].split()
        )
        if options:
            return f"there is no {group} {name!r}; choose from {', '.join(options)}{suggestion(name, options)}"
    return text


def _settings(folder: str, overrides: Sequence[str]) -> list[str]:
    """Full names of all settings and groups with these overrides."""
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(Path(config_directory(), folder)), version_base="1.3"):
            config = hydra.compose("config", overrides=[item for item in overrides if not item.startswith("hydra")])
    except (HydraException, OmegaConfBaseException):
        return []
    names: dict[str, None] = {}
    for name in flat(OmegaConf.to_container(config, resolve=False)):  # type: ignore[arg-type]
        parts = [part for part in name.split(".") if part != "_target_"]
        names |= {".".join(parts[: end + 1]): None for end in range(len(parts))}
    return list(names)


def resolve(config: DictConfig) -> dict[str, Any]:
    """Convert a configuration to plain values and resolve interpolations. Raises `ConfigError` for a missing value."""
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    missing = [key for key, value in flat(settings).items() if value in (MISSING, "")]
    if missing:
        raise ConfigError(f"{missing[0]} has no value; give one with {missing[0]}=VALUE")
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of all groups by their full names, such as "model.norm"."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def current_target(target: str) -> str:
    """Present place of a `_target_` that may have moved since the configuration was written."""
    for old, new in MOVED.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    return target


def build(settings: dict[str, Any], where: str, *args: Any, **given: Any) -> Any:
    """Call the `_target_` of a group with the group's other entries as arguments. Groups inside it are built first.

    Args:
        settings: the group.
        where: name of the group for error messages.
        *args: positional arguments for the target.
        **given: further keyword arguments for the target.

    Raises:
        ConfigError: if the target does not take an entry, or needs one that is missing.
    """
    settings = {
        key: build(value, f"{where}.{key}") if isinstance(value, dict) and "_target_" in value else value
        for key, value in settings.items()
    }
    target = hydra.utils.get_object(current_target(settings.pop("_target_")))
    refuse_unknown(settings, inspect.signature(target).parameters, where)
    try:
        return target(*args, **settings, **given)
    except (TypeError, ValueError) as error:
        if isinstance(error, SeparatorError):
            raise
        raise ConfigError(f"{where}: {error}") from error


def refuse_unknown(settings: dict[str, Any], known: Any, where: str) -> None:
    """Raise `ConfigError` for the first key of `settings` that is not in `known`."""
    for key in settings:
        if key not in known:
            name = f"{where}.{key}" if where else key
            raise ConfigError(
                f"there is no setting {name!r}; the settings are {', '.join(known)}{suggestion(key, known)}"
            )
