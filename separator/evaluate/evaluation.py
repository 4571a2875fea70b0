"""`python -m separator.evaluate model=NAME data.list=LIST.csv`: how well a model separates a list of mixtures."""

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
from separator.errors import ConfigError, check_flag, check_names, check_whole, reason
from separator.evaluate import ideal_masks, metrics, report_page, statistics
from separator.evaluate.statistics import Row
from separator.inference.separation import Separator
from separator.io import atomic
from separator.zoo import checkpoint

log = logging.getLogger("separator.evaluate")

SETTINGS = (
    "model", "baseline", "device", "precision", "shifts", "data", "limit", "measures", "bounds", "report", "out",
)  # fmt: skip
# Mixtures that a warning names.
MAX_NAMED = 5
# Prefix of the columns that tell what an ideal mask of this kind reaches.
BOUNDS = {"ibm": "binary", "irm": "ratio"}


@dataclass(frozen=True)
class EvaluationData:
    """The `data` group of an evaluation: a list of mixtures, the test set of a recipe's data, or generated ones.

    Attributes:
        list: a CSV or JSONL file, see `separator.data.lists.mixture_list`.
        adds_up: whether a list's mixtures are the sum of their sources and noise. False also takes noisy ones,
            and those that are louder or softer.
        recipe: instead, a recipe whose data's test part it is.
        root: of that recipe's data, where it needs one.
        overrides: of other settings of that recipe, as on the command line of training.
        channels: of a list's mixtures; null mixes them down to mono, 2 is for stereo.
        generated_mixtures: how many to draw where they are not given.
        seed: of the drawn ones.
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
        """What is evaluated on, in a word or two."""
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
            raise ConfigError("data.adds_up=false is a setting of lists: give data.list too")
        if self.recipe is None and (self.root is not None or self.overrides):
            raise ConfigError("data.root and data.overrides are settings of a recipe's data: give data.recipe too")

    def mixtures(self, sample_rate: int, sources: Sequence[str]) -> Dataset:
        """The mixtures, with these sources. Raises `ConfigError` or `DataError` for what cannot be had."""
        if self.list is not None:
            if self.recipe is not None:
                raise ConfigError("data.list and data.recipe are two things to evaluate on; give one")
            return MixtureSet(mixture_list(Path(self.list), sources, adds_up=self.adds_up), sample_rate, self.channels)
        data: MixtureData = GeneratedData(valid_mixtures=self.generated_mixtures)
        if self.recipe is not None:
            root = [] if self.root is None else [f"data.root={self.root}"]
            settings = config.compose([f"+recipe={self.recipe}", *root, *self.overrides])
            composed, number = settings["data"], settings["model"]["num_sources"]
            if number != len(sources):
                raise ConfigError(f"recipe {self.recipe} separates {number} sources, the model {len(sources)}")
            if "valid_mixtures" in composed:
                composed["valid_mixtures"] = self.generated_mixtures
            data = config.build(composed, "data")
        return data.testing(sample_rate, sources, self.seed)


def evaluate(
    separator: Separator,
    mixtures: Dataset,
    limit: int | None = None,
    extra: Sequence[str] = (),
    with_bounds: bool = False,
) -> list[Row]:
    """A row for each mixture; the stems are those that `Separator.separate` gives.

    Means over the sources that sound, in dB: `si_snr`, `si_snri`, `sdr`, `sdri`, those of the mixture itself
    (`mixture_si_snr`, ...) and, if asked for, of ideal masks (`ibm_si_snri`, `irm_si_snri`, ...); and those of each
    source (`si_snri_1`, `si_snri_vocals`, ...). Interchangeable sources are taken in their best order by SI-SNR.
    `silent_stems` names the sources that sound, but whose stems are silent: each counts as -80 dB.
    `silent_db` is how loud the stems of silent sources are beside the mixture. Where nothing is mixed, there is nothing
    to improve: `si_snri` and `sdri` are nan.

    Args:
        separator: the model.
        mixtures: a set of `separator.data.Mixture`.
        limit: use only the first so many.
        extra: further measures, of "pesq" and "stoi".
        with_bounds: whether to score ideal masks.
    """
    count = len(mixtures)  # type: ignore[arg-type]
    count = count if limit is None else min(count, limit)
    numbers = tqdm(range(count), unit="mixture", dynamic_ncols=True, disable=None)
    return [_row(separator, mixtures[index], extra, with_bounds) for index in numbers]


def separated(separator: Separator, item: Mixture) -> Tensor:
    """The stems of a mixture, `[source, ..., time]`, in the order of its sources."""
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
    """Between the loudest and the quietest source `[source, time]`, in dB; 0 for one alone."""
    if not len(sources):
        return 0.0
    energies = sources.double().square().sum(-1)
    return 10 * float(torch.log10(energies.max() / energies.min()))


def as_csv(rows: Sequence[Row]) -> str:
    """The rows as the text of a CSV file; a value that there is not is empty."""
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
    """Evaluates as configured, prints the summary and writes the rows."""
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
    writes: dict[Path, atomic.Write] = {out / "mixtures.csv": lambda path: path.write_text(as_csv(rows))}
    if others:
        facts["baseline"] = {"model": models[1].model, **statistics.summarize(others[0])}
        facts["against_baseline"] = {name: statistics.compare(rows, others[0], name) for name in ("si_snri", "sdri")}
        writes[out / "baseline.csv"] = lambda path: path.write_text(as_csv(others[0]))
    writes[out / "summary.json"] = lambda path: path.write_text(json.dumps(_plain(facts), indent=2) + "\n")
    if settings["report"]:
        page = report_page.make(facts, rows, mixtures, lambda item: separated(models[0], item), models[0].sources)
        writes[out / "report.html"] = lambda path: path.write_text(page, encoding="utf-8")
    try:
        atomic.write_together(writes)
        for name in ("baseline.csv", "report.html"):  # an earlier evaluation's
            if out / name not in writes:
                (out / name).unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"out={out} cannot be written to ({reason(error)}); choose another place") from error
    _print(facts)
    for path in writes:
        print(path)


def _warn_of_silence(model: Separator, rows: Sequence[Row]) -> None:
    """Says which stems are silent though their source sounds: a mean does not show it."""
    silent = [f"{row['id']} ({row['silent_stems']})" for row in rows if row["silent_stems"]]
    if silent:
        log.warning(
            "%s: in %d of %d mixtures stems are silent though their sources sound; each counts as %g dB: %s",
            *(model.model, len(silent), len(rows), objectives.SILENT_ESTIMATE_DB),
            ", ".join(silent[:MAX_NAMED]) + ", ..." * (len(silent) > MAX_NAMED),
        )


def _load(settings: Mapping[str, Any]) -> list[Separator]:
    """The model, and the baseline if there is one."""
    names = [name for name in (settings["model"], settings["baseline"]) if name is not None]
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(f"model must be a model's name or a checkpoint's path, got {name!r}")
    model, *others = (Separator(name, settings["device"], settings["precision"], settings["shifts"]) for name in names)
    for other in others:
        if (other.sources, other.sample_rate) != (model.sources, model.sample_rate):
            raise ConfigError(
                f"baseline={other.model} separates {', '.join(other.sources)} at {other.sample_rate} Hz, model="
                f"{model.model} {', '.join(model.sources)} at {model.sample_rate} Hz; only the same can be compared"
            )
    return [model, *others]


def _facts(model: Separator, data: str, rows: Sequence[Row], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` says of a model."""
    facts: dict[str, Any] = {"model": model.model, "data": data, "mixtures": len(rows), **statistics.summarize(rows)}
    facts["made_with"] = {"separator": __version__, "torch": torch.__version__, "settings": settings}
    facts["weights"] = checkpoint.fingerprint(model.net)
    facts["named_sources"] = list(model.sources[model.num_interchangeable :])
    for column, edges in statistics.GROUPS.items():
        facts[f"by_{column}"] = statistics.grouped(rows, column, edges)
    return facts


def _plain(facts: Any) -> Any:
    """For JSON, which has no nan: null."""
    if isinstance(facts, Mapping):
        return {name: _plain(value) for name, value in facts.items()}
    if isinstance(facts, list):
        return [_plain(value) for value in facts]
    return None if isinstance(facts, float) and math.isnan(facts) else facts


LABELS = {
    "si_snri": ("SI-SNRi", " dB"),
    "sdri": ("SDRi", " dB"),
    "pesq": ("PESQ", ""),
    "stoi": ("STOI", ""),
    "silent_db": ("silent stems, of the mixture", " dB"),
    "ibm_si_snri": ("SI-SNRi, ideal binary mask", " dB"),
    "irm_si_snri": ("SI-SNRi, ideal ratio mask", " dB"),
}


def _print(facts: dict[str, Any]) -> None:
    print(f"{facts['model']} on {facts['data']}, {facts['mixtures']} mixtures")
    named = {f"si_snri_{name}": (f"SI-SNRi, {name}", " dB") for name in facts["named_sources"]}
    for name, (label, unit) in (LABELS | named).items():
        if name in facts:
            values = facts[name]
            spread = f" +- {values['confidence']:.2f} (95%)" if values["count"] > 1 else ""
            text = f"{values['mean']:6.2f}{unit}{spread}, median {values['median']:.2f}"
            mixture = facts.get(f"mixture_{name}")
            print(f"  {label:28} {text}" + (f"; the mixture {mixture['mean']:.2f}" if mixture else ""))
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
    """The command line; `--report` stands for `report=true`."""
    sys.argv[1:] = ["report=true" if argument == "--report" else argument for argument in sys.argv[1:]]
    config.command(run, "evaluate")
