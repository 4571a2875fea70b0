"""From Hydra's configuration to objects, refusing what no object asked for.

Hydra merges a misspelt key of a recipe file without a word. So every group of the configuration is exactly
one constructor's arguments, and every key is held against that constructor's signature.
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

# Old `_target_` -> its new place. Run folders and users' own configurations still hold the old ones.
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
    """`conf/`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return str(installed if installed.is_dir() else package.parent / "conf")


def command(run: Callable[[dict[str, Any]], None], folder: str = "") -> None:
    """Runs `run` with `config.yaml` of a folder of `conf/` and the command line; an error is one line and exit code 1.

    A program with keys of its own needs a folder of its own: `model=NAME` chooses a file where there is `model/`.
    """
    # Without this Hydra prints and exits by itself, in many lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"

    def task(config: DictConfig) -> None:
        try:
            run(resolve(config))
        except SeparatorError as error:  # here, or Hydra would add a line of its own
            sys.exit(f"error: {error}")

    try:
        hydra.main(version_base="1.3", config_path=str(Path(config_directory(), folder)), config_name="config")(task)()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {_explained(error, folder, sys.argv[1:])}")
    except KeyboardInterrupt:
        sys.exit(130)


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """What training's `config.yaml` and a command line come to.

    Raises:
        ConfigError: for what that command line would be refused for.
    """
    # Inside a program that Hydra has started it would not start again.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(config_directory(), version_base="1.3"):
            return resolve(hydra.compose("config", overrides=list(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_explained(error, "", overrides)) from error
    finally:
        GlobalHydra.instance().hydra = outer


def _explained(error: Exception, folder: str, overrides: Sequence[str]) -> str:
    """Hydra's words for a setting or a file that does not exist, in ours; others in one line."""
    text = " ".join(str(error).split())
    if found := re.search(r"Could not override '([\w.@/]+)'", text):
        name = found[1]
        if Path(config_directory(), folder, name).is_dir():  # such as recipe, of which none is chosen at first
            return f"no {name} is chosen yet, so that there is none to replace: write +{name}=NAME"
        settings = _settings(
            folder, [item for item in overrides if re.match(r"\+?[\w/@]+=", item) and item.partition("=")[0] != name]
        )
        known = [key for key in settings if key.rpartition(".")[0] == name.rpartition(".")[0]]
        there = f"; there are {', '.join(key.rpartition('.')[2] for key in known)}" if known else ""
        return f"there is no setting {name!r}{there}{suggestion(name, known or settings)}"
    if found := re.search(r"Multiple values for ([\w/]+)", text):
        return f"there is a {found[1]} already: to choose another one write {found[1]}=NAME, without a +"
    if found := re.search(r"Could not find '([\w./-]+)'", text):
        group, _, name = found[1].rpartition("/")
        options = (
            text.partition("Available options in ")[2].partition(":")[2].partition(" Config search path")[0].split()
        )
        if options:
            return f"there is no {group} {name!r}; there are {', '.join(options)}{suggestion(name, options)}"
    return text


def _settings(folder: str, overrides: Sequence[str]) -> list[str]:
    """Full names of all settings, groups included, that there are with these files chosen."""
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
    """Plain values, interpolations resolved. Raises `ConfigError` where a value is still missing."""
    settings: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    missing = [key for key, value in flat(settings).items() if value in (MISSING, "")]
    if missing:
        raise ConfigError(f"no value for {missing[0]}; give one with {missing[0]}=VALUE")
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings of all groups by their full names, such as "model.norm"."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def current_target(target: str) -> str:
    """The present place of a `_target_`, which may have been written before it moved."""
    for old, new in MOVED.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    return target


def build(settings: dict[str, Any], where: str, *args: Any, **given: Any) -> Any:
    """Calls the `_target_` of a group with the group's other entries, after `args` and beside `given`.

    Groups within the group are built first.

    Raises:
        ConfigError: for an entry that the target does not take, or one that it needs; `where` names the group.
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
    """Raises `ConfigError` naming the first key of `settings` that is not in `known`."""
    for key in settings:
        if key not in known:
            name = f"{where}.{key}" if where else key
            raise ConfigError(f"there is no setting {name!r}; there are {', '.join(known)}{suggestion(key, known)}")
