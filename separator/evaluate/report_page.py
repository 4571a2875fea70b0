"""HTML report of an evaluation in one self-contained file: tables, figures and players."""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from separator import figures
from separator.data import Mixture
from separator.evaluate import metrics
from separator.evaluate.statistics import Row
from separator.html import player, track_picture
from separator.html.page import page, table
from separator.html.player import Track

# Peak of the recordings in the players.
PEAK = 0.9
NONE = "\N{EN DASH}"
# Row -> prefix of its scores in the summary.
ROWS = {"unprocessed mixture": "mixture_", "{model}": "", "ideal binary mask": "ibm_", "ideal ratio mask": "irm_"}
COLUMNS = {name: ", ".join(filter(None, words)) for name, words in metrics.columns().items()}
GROUP_COLUMNS = ("si_snr", "si_snri", "sdr", "sdri")
# Column -> its name on the page, and its unit.
GROUPS = {"sources": ("sources", ""), "level_difference_db": ("level difference", "dB"), "seconds": ("duration", "s")}


def make(
    facts: Mapping[str, Any],
    rows: Sequence[Row],
    mixtures: Dataset,
    separate: Callable[[Mixture], Tensor],
    sources: Sequence[str],
) -> str:
    """Make the page.

    Args:
        facts: contents of `summary.json`.
        rows: rows of `mixtures.csv`, one for each mixture, in the same order.
        mixtures: the evaluated mixtures.
        separate: returns the stems `[source, ..., time]` of a mixture in the order of its sources.
        sources: names of the sources.
    """
    model, data = html.escape(str(facts["model"])), html.escape(str(facts["data"]))
    parts = [
        f"<h1>{model} on {data}</h1>",
        f"<p>{facts['mixtures']} mixtures. Each cell shows the mean with its 95% confidence interval, and the median "
        "below.</p>",
        _table(facts, model),
        _against(facts),
        _sources(facts),
        _groups(facts),
        _made_with(facts),
    ]
    scored = [number for number, row in enumerate(rows) if math.isfinite(row["si_snri"])]
    if scored:
        parts.append(_picture(figures.score_figure(rows), "Improvement of each mixture, and its dependencies"))
    order = sorted(scored, key=lambda number: rows[number]["si_snri"])
    for title, number in _chosen(order):
        item = mixtures[number]
        parts.append(_example(title, rows[number], item, separate(item), sources))
    return page(f"{facts['model']} on {facts['data']}", parts)


def _chosen(order: Sequence[int]) -> list[tuple[str, int]]:
    """Best, median and worst mixture, without repeats. `order` has the mixtures in the order of their scores."""
    if not order:
        return []
    places = {"The best": len(order) - 1, "The median": len(order) // 2, "The worst": 0}
    chosen: dict[int, str] = {}
    for title, place in places.items():
        chosen.setdefault(order[place], title)
    return [(title, number) for number, title in chosen.items()]


def _table(facts: Mapping[str, Any], model: str) -> str:
    measured = [name for name in COLUMNS if any(f"{prefix}{name}" in facts for prefix in ROWS.values())]
    rows = [
        [label.format(model=model), *(_value(facts.get(f"{prefix}{name}")) for name in measured)]
        for label, prefix in ROWS.items()
        if any(f"{prefix}{name}" in facts for name in measured)
    ]
    note = ""
    if "silent_db" in facts:
        note = f"<p>Stems of silent sources: {_value(facts['silent_db'])} dB relative to the mixture.</p>"
    return table([COLUMNS[name] for name in measured], rows) + note


def _value(summary: Mapping[str, float] | None) -> str:
    if summary is None:
        return NONE
    spread = "" if math.isnan(summary["confidence"]) else f" &plusmn; {summary['confidence']:.2f}"
    return f"{summary['mean']:.2f}{spread}<br><small>{summary['median']:.2f}</small>"


def _against(facts: Mapping[str, Any]) -> str:
    if "baseline" not in facts:
        return ""
    tests = [(label, facts["against_baseline"][name]) for name, label in (("si_snri", "SI-SNRi"), ("sdri", "SDRi"))]
    rows = [
        [
            label,
            f"{test['mean_difference']:+.2f} &plusmn; {test['confidence']:.2f}",
            *(f"{test['better']:.0%}", f"{test['t_test_p']:.2g}", f"{test['wilcoxon_p']:.2g}"),
        ]
        for label, test in tests
    ]
    name = html.escape(str(facts["baseline"]["model"]))
    columns = ("difference, dB", "better on", "p, paired t-test", "p, Wilcoxon")
    return f"<h2>Compared with {name}</h2>{table(columns, rows)}"


def _sources(facts: Mapping[str, Any]) -> str:
    if not facts["named_sources"]:
        return ""
    rows = [
        [html.escape(name), *(_value(facts.get(f"{measure}_{name}")) for measure in ("si_snri", "sdri"))]
        for name in facts["named_sources"]
    ]
    return f"<h2>By source</h2>{table(('SI-SNRi, dB', 'SDRi, dB'), rows)}"


def _made_with(facts: Mapping[str, Any]) -> str:
    text = html.escape(json.dumps(facts.get("made_with", {}), indent=2))
    return f"<details><summary>Versions and settings</summary><pre>{text}</pre></details>"


def _groups(facts: Mapping[str, Any]) -> str:
    tables = []
    for column, (title, unit) in GROUPS.items():
        if column == "sources" and len(facts["by_sources"]) < 2:
            continue
        rows = [
            [
                span(group, "", unit),
                str(group["mixtures"]),
                *(_value(group.get(measure)) for measure in GROUP_COLUMNS),
            ]
            for group in facts[f"by_{column}"]
        ]
        tables.append(f"<h2>By {title}</h2>{table(('mixtures', *(COLUMNS[name] for name in GROUP_COLUMNS)), rows)}")
    return "".join(tables)


def span(group: Mapping[str, Any], title: str, unit: str) -> str:
    """Description of a group of rows, such as "2 sources" or "from 5 dB level difference"."""
    if unit == "":
        return f"{group['from']:g} {title}".strip()
    if group["to"] is None:
        return f"from {group['from']:g} {unit} {title}".strip()
    return f"{group['from']:g} to {group['to']:g} {unit} {title}".strip()


def _example(title: str, row: Row, item: Mixture, stems: Tensor, sources: Sequence[str]) -> str:
    """Player for one mixture, its estimates and its sources."""
    waveforms = {"mixture": (item.mixture, True)}
    for name, stem, source in zip(sources, stems, item.sources, strict=True):
        waveforms |= {f"{name}, estimate": (stem, False), f"{name}, reference": (source, True)}
    # The same gain for all: the level of an estimate is part of its quality.
    gain = PEAK / max(max(float(waveform.abs().max()) for waveform, _ in waveforms.values()), 1e-9)
    tracks = [
        _track(name, gain * np.atleast_2d(waveform.numpy()), item.sample_rate, muted)
        for name, (waveform, muted) in waveforms.items()
    ]
    heading = f"{title}: {row['si_snri']:.2f} dB"
    return f"<h2>{heading}</h2><p>{html.escape(str(row['id']))}</p>" + player.fragment(
        tracks, item.sample_rate, label=heading
    )


def _track(name: str, samples: np.ndarray, sample_rate: int, muted: bool) -> Track:
    lane = track_picture.measure([samples], samples.shape[1], sample_rate)
    return Track(name, lane, player.embedded(samples, sample_rate), muted=muted)


def _picture(figure: Any, text: str) -> str:
    from matplotlib import pyplot

    file = io.BytesIO()
    figure.savefig(file, dpi=90, format="png")
    pyplot.close(figure)
    picture = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<figure><img alt="{html.escape(text)}" src="data:image/png;base64,{picture}"></figure>'
