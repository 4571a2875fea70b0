"""Evaluation of a model: `python -m separator.evaluate model=NAME data.list=LIST.csv`."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from separator import __version__, config, objectives
from separator.data import GeneratedData, Mixture, MixtureData, MixtureSet
from separator.data.lists import mixture_list
from separator.data.ready_made import WithSilentSources
from separator.errors import ConfigError, check_flag, check_names, check_whole, reason
from separator.evaluate import ideal_masks, metrics, report_page, statistics
from separator.evaluate.statistics import Row
from separator.inference.file_result import is_speaker
from separator.inference.separation import Separator
from separator.io import atomic
from separator.zoo import checkpoint

log = logging.getLogger("separator.evaluate")

SETTINGS = (
    "model", "baseline", "device", "precision", "shifts", "data", "limit", "measures", "bounds", "report", "out",
)  # fmt: skip
# Largest number of mixtures that a warning names.
MAX_NAMED = 5
# Column prefix -> kind of the ideal mask.
BOUNDS = {"ibm": "binary", "irm": "ratio"}


@dataclass(frozen=True)
class EvaluationData:
    """The `data` group of an evaluation: a list of mixtures, the test set of a recipe, or generated mixtures.

    Without `list` and `recipe`, the mixtures are made from generated voices.

    Attributes:
        list: a CSV or JSONL file, see `separator.data.lists.mixture_list`.
        adds_up: whether the mixtures of the list must be the sum of their sources and noise (default: true). False also
            accepts mixtures with other noise or another level.
        recipe: name of a recipe. Its test set is used.
        root: folder of that recipe's data (`data.root`), if it needs one.
        overrides: other settings of that recipe, as on the command line of training.
        channels: channels of the list's mixtures. null (default) mixes them down to mono. 2 for stereo.
        generated_mixtures: number of mixtures to draw, if they are not ready-made (default: 50).
        seed: seed of the drawn mixtures (default: 0).
    """

    list: str | None = None
    adds_up: bool = True
    recipe: str | None = None
    root: str | None = None
    overrides: Sequence[str] = ()
    channels: int | None = None
    generated_mixtures: int = 50
    seed: int = 0

    @property
    def name(self) -> str:
        """Short name of the data."""
        return self.list or (f"the test set of {self.recipe}" if self.recipe else "generated voices")

    def __post_init__(self) -> None:
        check_whole("data.generated_mixtures", self.generated_mixtures)
        check_whole("data.seed", self.seed, least=0)
        if self.channels is not None:
            check_whole("data.channels", self.channels)
        if self.overrides:
            check_names("data.overrides", self.overrides)
        check_flag("data.adds_up", self.adds_up)
        if self.list is None and not self.adds_up:
            raise ConfigError("data.adds_up=false is only for a list: give data.list too")
        if self.recipe is None and (self.root is not None or self.overrides):
            raise ConfigError("data.root and data.overrides are only for a recipe: give data.recipe too")

    def mixtures(self, sample_rate: int, sources: Sequence[str]) -> Dataset:
        """The mixtures with these sources. Raises `ConfigError` or `DataError` if they cannot be made."""
        if self.list is not None:
            if self.recipe is not None:
                raise ConfigError("data.list and data.recipe are both set; give only one of them")
            return MixtureSet(mixture_list(Path(self.list), sources, adds_up=self.adds_up), sample_rate, self.channels)
        data: MixtureData = GeneratedData(valid_mixtures=self.generated_mixtures)
        if self.recipe is not None:
            root = [] if self.root is None else [f"data.root={self.root}"]
            settings = config.compose([f"+recipe={self.recipe}", *root, *self.overrides])
            composed, number = settings["data"], settings["model"]["num_sources"]
            if number != len(sources):
                raise ConfigError(
                    f"recipe {self.recipe} separates {number} sources, but the model separates {len(sources)}"
                )
            if "valid_mixtures" in composed:
                composed["valid_mixtures"] = self.generated_mixtures
            data = config.build(composed, "data")
            return data.testing(sample_rate, sources, self.seed)
        # Generated mixtures have no background.
        speakers = [name for name in sources if is_speaker(name)] or sources
        mixtures = data.testing(sample_rate, speakers, self.seed)
        return WithSilentSources(mixtures, len(sources) - len(speakers))


def evaluate(
    separator: Separator,
    mixtures: Dataset,
    limit: int | None = None,
    extra: Sequence[str] = (),
    with_bounds: bool = False,
) -> list[Row]:
    """Separate each mixture with `Separator.separate` and score it. Return one row for each mixture.

    Columns, in dB:
        si_snr, si_snri, sdr, sdri: means over the sources that are not silent.
        mixture_si_snr, ...: the same for the unprocessed mixture.
        ibm_si_snri, irm_si_snri, ...: the same for ideal masks, with `with_bounds`.
        si_snri_1, si_snri_vocals, ...: values of each source.
        silent_db: level of the stems of silent sources, relative to the mixture.

    The column `silent_stems` names the sources that are not silent but whose stems are. Each counts as -80 dB.
    Interchangeable sources are put in their best order by SI-SNR. If a mixture has only one source, nothing can be
    improved: `si_snri` and `sdri` are nan.

    Args:
        separator: the model.
        mixtures: a set of `separator.data.Mixture`.
        limit: number of mixtures to use, from the first. None (default) for all.
        extra: further metrics: "pesq", "stoi" (default: none).
        with_bounds: whether to score ideal masks (default: no).
    """
    count = len(mixtures)  # type: ignore[arg-type]
    count = count if limit is None else min(count, limit)
    numbers = tqdm(range(count), unit="mixture", dynamic_ncols=True, disable=None)
    return [_row(separator, mixtures[index], extra, with_bounds) for index in numbers]


def separated(separator: Separator, item: Mixture) -> Tensor:
    """Separate a mixture. The stems `[source, ..., time]` are in the order of its sources."""
    stems = separator.separate(item.mixture, item.sample_rate)
    estimate = torch.stack([torch.as_tensor(stem) for stem in stems.values()])
    return metrics.in_best_order(estimate, item, separator.num_interchangeable)


def _row(separator: Separator, item: Mixture, extra: Sequence[str], with_bounds: bool) -> Row:
    scores = metrics.score(separated(separator, item), item, extra)
    before = metrics.score(item.mixture.expand_as(item.sources), item, extra)
    is_mixed = bool(objectives.is_mixed(item.sources.flatten(1)[None], item.mixture.flatten()[None]))
    row: Row = {
        "id": item.name,
        "seconds": item.mixture.shape[-1] / item.sample_rate,
        "sources": len(scores.sources),
        "level_difference_db": _level_difference(item.sources.flatten(1)[scores.sources]),
        "silent_stems": " ".join(separator.sources[number] for number in scores.missing),
    }
    for name in ("si_snr", "sdr"):
        row[name] = scores.mean(name)
        row[f"{name}i"] = scores.mean(name) - before.mean(name) if is_mixed else math.nan
    row |= {name: scores.mean(name) for name in extra}
    if not math.isnan(scores.silent_db):
        row["silent_db"] = scores.silent_db
    row |= {f"mixture_{name}": before.mean(name) for name in scores.values}
    for place, number in enumerate(scores.sources):
        label = str(number + 1) if number < separator.num_interchangeable else separator.sources[number]
        row[f"mixture_si_snr_{label}"] = before.values["si_snr"][place]
        for name in ("si_snr", "sdr"):
            gain = scores.values[name][place] - before.values[name][place]
            row[f"{name}i_{label}"] = gain if is_mixed else math.nan
    if with_bounds and is_mixed:
        for name, kind in BOUNDS.items():
            ideal = metrics.score(ideal_masks.ideal_mask(item.mixture, item.sources, item.sample_rate, kind), item)
            row |= {f"{name}_{key}i": ideal.mean(key) - before.mean(key) for key in ("si_snr", "sdr")}
    return row


def _level_difference(sources: Tensor) -> float:
    """Level difference between the loudest and the quietest source `[source, time]` in dB. 0 for a single source."""
    if not len(sources):
        return 0.0
    energies = sources.double().square().sum(-1)
    return 10 * float(torch.log10(energies.max() / energies.min()))


def to_csv(rows: Sequence[Row]) -> str:
    """The rows as the text of a CSV file. Missing values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4f}"


def run(settings: dict[str, Any]) -> None:
    """Evaluate according to the settings, print the summary and write the files."""
    config.refuse_unknown(settings, SETTINGS, "")
    data: EvaluationData = config.build(settings["data"], "data")
    if settings["limit"] is not None:
        check_whole("limit", settings["limit"])
    extra, missing = metrics.available(settings["measures"])
    for text in missing:
        log.info(text)
    models = _load(settings)
    mixtures = data.mixtures(models[0].sample_rate, models[0].sources)
    out = Path(settings["out"])
    rows, *others = [
        evaluate(model, mixtures, settings["limit"], extra, settings["bounds"] and model is models[0])
        for model in models
    ]
    for model, part in zip(models, [rows, *others], strict=True):
        _warn_of_silence(model, part)
    what = data.name if models[0].shifts == 1 else f"{data.name} in {models[0].shifts} shifts"
    facts = _facts(models[0], what, rows, settings)
    writes: dict[Path, atomic.Write] = {out / "mixtures.csv": lambda path: path.write_text(to_csv(rows))}
    if others:
        facts["baseline"] = {"model": models[1].model, **statistics.summarize(others[0])}
        facts["against_baseline"] = {name: statistics.compare(rows, others[0], name) for name in ("si_snri", "sdri")}
        writes[out / "baseline.csv"] = lambda path: path.write_text(to_csv(others[0]))
    writes[out / "summary.json"] = lambda path: path.write_text(json.dumps(_plain(facts), indent=2) + "\n")
    if settings["report"]:
        page = report_page.make(facts, rows, mixtures, lambda item: separated(models[0], item), models[0].sources)
        writes[out / "report.html"] = lambda path: path.write_text(page, encoding="utf-8")
    try:
        atomic.write_together(writes)
        for name in ("baseline.csv", "report.html"):  # of an earlier evaluation
            if out / name not in writes:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out} cannot be written ({reason(error)}); choose another folder") from error
    _print(facts)
    for path in writes:
        print(path)


def _warn_of_silence(model: Separator, rows: Sequence[Row]) -> None:
    """Log a warning for silent stems whose source is not silent. A mean does not show them."""
    silent = [f"{row['id']} ({row['silent_stems']})" for row in rows if row["silent_stems"]]
    if silent:
        log.warning(
            "%s: %d of %d mixtures have silent stems for sources that are not silent; each counts as %g dB: %s",
            *(model.model, len(silent), len(rows), objectives.SILENT_ESTIMATE_DB),
            ", ".join(silent[:MAX_NAMED]) + ", ..." * (len(silent) > MAX_NAMED),
        )


def _load(settings: Mapping[str, Any]) -> list[Separator]:
    """Load the model, and the baseline if there is one."""
    names = [name for name in (settings["model"], settings["baseline"]) if name is not None]
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"model must be a model's name or a checkpoint's path, got {name!r}")
    model, *others = (Separator(name, settings["device"], settings["precision"], settings["shifts"]) for name in names)
    for other in others:
        if (other.sources, other.sample_rate) != (model.sources, model.sample_rate):
            raise ConfigError(
                f"baseline={other.model} separates {', '.join(other.sources)} at {other.sample_rate} Hz, but model="
                f"{model.model} separates {', '.join(model.sources)} at {model.sample_rate} Hz; the sources and the "
                "sample rate must be the same"
            )
    return [model, *others]


def _facts(model: Separator, data: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Contents of `summary.json` for a model."""
    facts: dict[str, Any] = {"model": model.model, "data": data, "mixtures": len(rows), **statistics.summarize(rows)}
    facts["made_with"] = {"separator": __version__, "torch": torch.__version__, "settings": settings}
    facts["weights"] = checkpoint.fingerprint(model.net)
    facts["labels"] = _labels()
    facts["named_sources"] = list(model.sources[model.num_interchangeable :])
    for column, edges in statistics.GROUPS.items():
        facts[f"by_{column}"] = statistics.grouped(rows, column, edges)
    return facts


def _plain(facts: Any) -> Any:
    """Replace nan by None, because JSON has no nan."""
    if isinstance(facts, Mapping):
        return {name: _plain(value) for name, value in facts.items()}
    if isinstance(facts, list):
        return [_plain(value) for value in facts]
    return None if isinstance(facts, float) and math.isnan(facts) else facts


def _labels() -> dict[str, tuple[str, str]]:
    """Return label and unit of the scores that describe a model."""
    scores = {name: words for name, words in metrics.columns().items() if name not in ("si_snr", "sdr")}
    return scores | {"silent_db": ("silent stems vs. mixture", "dB")}


def _print(facts: dict[str, Any]) -> None:
    print(f"{facts['model']} on {facts['data']}, {facts['mixtures']} mixtures")
    more = {f"{name}_si_snri": (f"SI-SNRi, ideal {kind} mask", "dB") for name, kind in BOUNDS.items()}
    more |= {f"si_snri_{name}": (f"SI-SNRi, {name}", "dB") for name in facts["named_sources"]}
    for name, (label, unit) in (_labels() | more).items():
        if name in facts:
            values = facts[name]
            spread = f" +- {values['confidence']:.2f} (95%)" if values["count"] > 1 else ""
            text = f"{values['mean']:6.2f}{f' {unit}' if unit else ''}{spread}, median {values['median']:.2f}"
            mixture = facts.get(f"mixture_{name}")
            print(f"  {label:28} {text}" + (f"; unprocessed mixture {mixture['mean']:.2f}" if mixture else ""))
    for column, words in report_page.GROUPS.items():
        groups = facts[f"by_{column}"]
        for group in groups if len(groups) > 1 else ():
            name, what = ("si_snri", "SI-SNRi") if "si_snri" in group else ("si_snr", "SI-SNR")
            if name in group:
                text = f"{group[name]['mean']:6.2f} dB {what}, {group['mixtures']} mixtures"
                print(f"  {report_page.span(group, *words):28} {text}")
    if "baseline" in facts:
        test = facts["against_baseline"]["si_snri"]
        print(
            f"  against {facts['baseline']['model']:20} {test['mean_difference']:+6.2f} dB SI-SNRi +- "
            f"{test['confidence']:.2f} (95%), better on {test['better']:.0%}; t-test p = {test['t_test_p']:.2g}, "
            f"Wilcoxon p = {test['wilcoxon_p']:.2g}"
        )


def main() -> None:
    """Run the command line. `--report` is the same as `report=true`."""
    sys.argv[1:] = ["report=true" if argument == "--report" else argument for argument in sys.argv[1:]]
    config.command(run, "evaluate")
