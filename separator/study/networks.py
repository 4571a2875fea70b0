"""`python -m separator.study task=copy`: temporal convolutions on the tasks that show what they remember.

Each run trains one small causal network and adds a row to the results of its folder, from which the table and
the picture are drawn anew. With `-m` and lists of values, Hydra runs all combinations.
"""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from separator import config, figures
from separator.errors import ConfigError, TrainingError, check_whole
from separator.io import atomic
from separator.models import TCN
from separator.models.tcn import SeparableStack, StackConfig
from separator.study.tasks import Task

SETTINGS = ("task", "network", "data", "seed", "steps", "batch_size", "lr", "score_examples", "out", "x", "line")
MEASURED = ("receptive_field", "reach", "parameters", "score", "chance", "loss", "seconds")


class StackNetwork(nn.Module):
    """The body of our separator between two 1x1 convolutions, causal, with a norm for each frame by itself.

    So that nothing but the convolutions can carry what a frame knows to another. One of `kernel_size`, `num_blocks`
    and `num_repeats` may be None: it is then what makes the receptive field `receptive_field` frames.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        channels: int = 32,
        kernel_size: int | None = 3,
        num_blocks: int | None = 6,
        num_repeats: int | None = 1,
        temporal: str = "depthwise",
        temporal_options: Mapping[str, Any] | None = None,
        receptive_field: int | None = None,
    ) -> None:
        super().__init__()
        kernel_size, num_blocks, num_repeats = hold(receptive_field, kernel_size, num_blocks, num_repeats)
        self.sizes = {"kernel_size": kernel_size, "num_blocks": num_blocks, "num_repeats": num_repeats}
        self.enter = nn.Linear(num_inputs, channels)
        self.stack = SeparableStack(
            StackConfig(
                bottleneck_channels=channels,
                hidden_channels=2 * channels,
                kernel_size=kernel_size,
                num_blocks=num_blocks,
                num_repeats=num_repeats,
                norm="channel",
                temporal=temporal,
                causal=True,
                temporal_options=temporal_options,
            )
        )
        self.leave = nn.Linear(channels, num_outputs)
        self.receptive_field = self.stack.receptive_field

    def forward(self, sequence: Tensor) -> Tensor:
        """`[batch, channel, frame]` -> `[batch, output, frame]`."""
        return self.leave(self.stack(self.enter(sequence.mT))).mT


class TCNNetwork(nn.Module):
    """The generic temporal convolutional network with a 1x1 convolution behind it.

    With a `receptive_field`, one of `kernel_size` and `num_blocks` may be None, as in `StackNetwork`.
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int,
        channels: int = 32,
        kernel_size: int | None = 3,
        num_blocks: int | None = 6,
        dropout: float = 0.0,
        receptive_field: int | None = None,
    ) -> None:
        super().__init__()
        # A block has two convolutions.
        kernel_size, num_blocks, _ = hold(receptive_field, kernel_size, num_blocks, 2)
        self.sizes = {"kernel_size": kernel_size, "num_blocks": num_blocks}
        self.tcn = TCN(num_inputs, [channels] * num_blocks, kernel_size, dropout)
        self.leave = nn.Linear(channels, num_outputs)
        self.receptive_field = self.tcn.receptive_field

    def forward(self, sequence: Tensor) -> Tensor:
        """`[batch, channel, frame]` -> `[batch, output, frame]`."""
        return self.leave(self.tcn(sequence).mT).mT


def hold(
    receptive_field: int | None, kernel_size: int | None, num_blocks: int | None, num_repeats: int | None
) -> tuple[int, int, int]:
    """Kernel size, blocks and repeats, the one that is None such that they see `receptive_field` frames.

    They see 1 + repeats * (kernel size - 1) * (2 ^ blocks - 1).

    Raises:
        ConfigError: unless one is None where there is a receptive field and none where there is not, or if no
            whole number does it.
    """
    sizes = {"kernel_size": kernel_size, "num_blocks": num_blocks, "num_repeats": num_repeats}
    missing = [name for name, size in sizes.items() if size is None]
    if len(missing) != (receptive_field is not None):
        raise ConfigError(
            f"network.receptive_field={receptive_field} leaves {int(receptive_field is not None)} of the sizes to be "
            f"found (null), got {', '.join(f'{name}={size}' for name, size in sizes.items())}"
        )
    if receptive_field is None:
        return kernel_size, num_blocks, num_repeats  # type: ignore[return-value]
    for size in range(1, receptive_field + 1):
        k, x, r = (size if value is None else value for value in sizes.values())
        if 1 + r * (k - 1) * (2**x - 1) == receptive_field:
            return k, x, r
    given = ", ".join(f"{name}={size}" for name, size in sizes.items() if size is not None)
    raise ConfigError(f"no {missing[0]} gives a receptive field of {receptive_field} frames with {given}")


def run(settings: dict[str, Any]) -> None:
    """Trains and scores as configured, and brings the folder's results up to date."""
    config.refuse_unknown(settings, SETTINGS, "")
    for name in ("steps", "batch_size", "score_examples"):
        check_whole(name, settings[name])
    check_whole("seed", settings["seed"], least=0)
    if not isinstance(settings["lr"], (int, float)) or not settings["lr"] > 0:
        raise ConfigError(f"lr must be a number above 0, got {settings['lr']!r}")
    torch.manual_seed(settings["seed"])
    task: Task = config.build(settings["task"], "task")
    net = config.build(settings["network"], "network", task.num_inputs, task.num_outputs)
    row = {key: str(value) for key, value in flat(settings).items() if key not in ("out", "x", "line", "data.root")}
    row |= {f"network.{name}": str(size) for name, size in net.sizes.items()}  # one of them may have been found
    # One name for what is compared, whatever the network.
    row["kind"] = row.get("network.temporal", "TCN")
    row |= {"receptive_field": str(net.receptive_field), "reach": str(task.reach)}
    row["parameters"] = str(sum(parameter.numel() for parameter in net.parameters()))
    for role in ("x", "line"):
        if settings[role] is not None and settings[role] not in row:
            raise ConfigError(f"{role}={settings[role]} is no setting of this study; there are {', '.join(row)}")
    folder = Path(settings["out"])
    check_out(folder, row, settings["x"])
    started = time.monotonic()
    loss = fit(net, task, settings)
    score = measure(net, task, settings["score_examples"])
    row |= {
        "score": f"{score:.4f}",
        "chance": f"{task.chance:.4f}",
        "loss": f"{loss:.5f}",
        "seconds": f"{time.monotonic() - started:.1f}",
    }
    rows = merge(read_rows(folder / "results.csv"), row)
    tell(folder, rows, task.score_name, settings["x"], settings["line"])
    print(f"{task.score_name} {score:.4f} (chance {task.chance:.3f}), {folder / 'results.csv'}")


def check_out(folder: Path, row: dict[str, str], x: str | None) -> None:
    """Raises `ConfigError` if `row` cannot stand beside the results in `folder`, or `x` cannot be an axis."""
    for other in [*read_rows(folder / "results.csv"), row]:
        if other["task"] != row["task"]:
            raise ConfigError(f"out={folder} holds results of {other['task']}; choose another for {row['task']}")
        try:
            float(other.get(x or "") or 0)
        except ValueError as error:
            raise ConfigError(f"x={x} is {other[x or '']!r} in a row, and a plot's axis needs numbers") from error


def fit(net: nn.Module, task: Task, settings: dict[str, Any]) -> float:
    """Trains with Adam, the rate falling to zero along half a cosine; returns the mean loss of the last tenth."""
    steps, generator = settings["steps"], torch.Generator().manual_seed(settings["seed"])
    optimizer = torch.optim.Adam(net.parameters(), lr=settings["lr"])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for step in tqdm(range(1, steps + 1), unit="step", dynamic_ncols=True, leave=False, disable=None):
        sequence, target = task.batch(settings["batch_size"], generator)
        loss = task.loss(net(sequence), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if not loss.isfinite():
            raise TrainingError(f"step {step}: the loss is {losses[-1]}; lower lr (now {settings['lr']})")
    last = losses[-max(1, steps // 10) :]
    return sum(last) / len(last)


@torch.no_grad()
def measure(net: nn.Module, task: Task, examples: int) -> float:
    """The score on `examples` sequences that are the same in every study, or on as many as there are."""
    net.eval()
    sequence, target = task.batch(examples, torch.Generator().manual_seed(1_000_003), training=False)
    return task.score(torch.cat([net(part) for part in sequence.split(64)]), target)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name; a target by its class."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "_target_":
            result[prefix.rstrip(".")] = str(value).rsplit(".", 1)[-1]
        elif isinstance(value, Mapping) and value:
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of an earlier study; none if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def merge(rows: list[dict[str, str]], row: dict[str, str]) -> list[dict[str, str]]:
    """The rows with one more, in the place of that with the same settings if there is one."""

    def settings(of: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in of.items() if key not in MEASURED and value}

    return [other for other in rows if settings(other) != settings(row)] + [row]


def tell(folder: Path, rows: list[dict[str, str]], score_name: str, x: str | None, line: str | None) -> None:
    """Writes results.csv, table.md (in two ways where `x` names a setting), and then plot.png."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in MEASURED)) + list(MEASURED)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    table = as_table(rows, columns) if x is None else across(rows, x, line, score_name) + "\n" + as_table(rows, columns)
    writes: dict[Path, atomic.Write] = {
        folder / "results.csv": lambda path: path.write_text(text.getvalue()),
        folder / "table.md": lambda path: path.write_text(table),
    }
    if x is not None:
        writes[folder / "plot.png"] = lambda path: figures.draw_study(rows, x, line, score_name, path)
    try:
        atomic.write_together(writes)
    except OSError as error:
        raise ConfigError(f"out={folder} cannot be written to ({error.strerror}); choose another place") from error


def as_table(rows: list[dict[str, str]], columns: list[str]) -> str:
    """Markdown, with the settings that differ and what was measured."""
    shown = [
        key for key in columns if len({row.get(key, "") for row in rows}) > 1 or key in ("score", "receptive_field")
    ]
    shown = [key for key in shown if key != "loss"]
    lines = ["| " + " | ".join(key.removeprefix("network.") for key in shown) + " |", "| --- " * len(shown) + "|"]
    lines += ["| " + " | ".join(row.get(key, "") for key in shown) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def across(rows: list[dict[str, str]], x: str, line: str | None, score_name: str) -> str:
    """Markdown, the picture in numbers: a row for each of its lines, a column for each value of `x`.

    Where several runs fall into one place, such as those of several seeds: the lowest, the median and the highest.
    """
    scores = figures.study_scores(rows, x, line)
    places = sorted({place for points in scores.values() for place in points})
    lines = [f"| {line or ''} | " + " | ".join(f"{x}={place:g}" for place in places) + " |"]
    lines.append("| --- " * (len(places) + 1) + "|")
    for value, points in scores.items():
        cells = (_cell(sorted(points.get(place, []))) for place in places)
        lines.append(f"| {value or score_name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(scores: list[float]) -> str:
    if not scores:
        return ""
    shown = scores if len(scores) == 1 else [scores[0], statistics.median(scores), scores[-1]]
    return " / ".join(f"{score:.4f}" for score in shown)


def main() -> None:
    """The command line."""
    config.command(run, "study")
