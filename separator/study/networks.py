"""`python -m separator.study task=copy`: train temporal convolutions on tasks that show how far they remember.

Each run trains one small causal network and adds a row to the results in its output folder. The table and the plot are
then drawn again from all rows. With `-m` and lists of values, Hydra runs all combinations.
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

    So only the convolutions can carry information from frame to frame. One of `kernel_size`, `num_blocks` and
    `num_repeats` may be None. It is then chosen so that the receptive field is `receptive_field` frames.
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
        kernel_size, num_blocks, num_repeats = resolve_sizes(receptive_field, kernel_size, num_blocks, num_repeats)
        self.sizes = {"kernel_size": kernel_size, "num_blocks": num_blocks, "num_repeats": num_repeats}
        self.input_layer = nn.Linear(num_inputs, channels)
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
        self.output_layer = nn.Linear(channels, num_outputs)
        self.receptive_field = self.stack.receptive_field

    def forward(self, sequence: Tensor) -> Tensor:
        """Transform `[batch, channel, frame]` -> `[batch, output, frame]`."""
        return self.output_layer(self.stack(self.input_layer(sequence.mT))).mT


class TCNNetwork(nn.Module):
    """The generic temporal convolutional network, followed by a 1x1 convolution.

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
        kernel_size, num_blocks, _ = resolve_sizes(receptive_field, kernel_size, num_blocks, 2)
        self.sizes = {"kernel_size": kernel_size, "num_blocks": num_blocks}
        self.tcn = TCN(num_inputs, [channels] * num_blocks, kernel_size, dropout)
        self.output_layer = nn.Linear(channels, num_outputs)
        self.receptive_field = self.tcn.receptive_field

    def forward(self, sequence: Tensor) -> Tensor:
        """Transform `[batch, channel, frame]` -> `[batch, output, frame]`."""
        return self.output_layer(self.tcn(sequence).mT).mT


def resolve_sizes(
    receptive_field: int | None, kernel_size: int | None, num_blocks: int | None, num_repeats: int | None
) -> tuple[int, int, int]:
    """Complete the sizes: choose the one that is None so that the receptive field is `receptive_field` frames.

    The receptive field is 1 + repeats * (kernel size - 1) * (2 ^ blocks - 1) frames.

    Returns:
        Kernel size, blocks and repeats.

    Raises:
        ConfigError: unless exactly one size is None with a receptive field, and no size is None without one. Also if
            no whole number gives the receptive field.
    """
    sizes = {"kernel_size": kernel_size, "num_blocks": num_blocks, "num_repeats": num_repeats}
    missing = [name for name, size in sizes.items() if size is None]
    if len(missing) != (receptive_field is not None):
        raise ConfigError(
            f"network.receptive_field={receptive_field} needs {int(receptive_field is not None)} of the sizes to be "
            f"null, got {', '.join(f'{name}={size}' for name, size in sizes.items())}"
        )
    if receptive_field is None:
        return kernel_size, num_blocks, num_repeats  # type: ignore[return-value]
    for size in range(1, receptive_field + 1):
        k, x, r = (size if value is None else value for value in sizes.values())
        if 1 + r * (k - 1) * (2**x - 1) == receptive_field:
            return k, x, r
    given = ", ".join(f"{name}={size}" for name, size in sizes.items() if size is not None)
    raise ConfigError(
        f"no {missing[0]} gives a receptive field of {receptive_field} frames with {given}; choose another"
    )


def run(settings: dict[str, Any]) -> None:
    """Train and score one network as configured, and update the results in the output folder."""
    config.refuse_unknown(settings, SETTINGS, "")
    for name in ("steps", "batch_size", "score_examples"):
        check_whole(name, settings[name])
    check_whole("seed", settings["seed"], least=0)
    if not isinstance(settings["lr"], (int, float)) or not settings["lr"] > 0:
        raise ConfigError(f"lr must be a number above 0, got {settings['lr']!r}")
    torch.manual_seed(settings["seed"])
    task: Task = config.build(settings["task"], "task")
    net = config.build(settings["network"], "network", task.num_inputs, task.num_outputs)
    row = {
        key: str(value)
        for key, value in flatten_settings(settings).items()
        if key not in ("out", "x", "line", "data.root")
    }
    row |= {f"network.{name}": str(size) for name, size in net.sizes.items()}  # one of them may have been computed
    # The same column name for the compared property of every kind of network.
    row["kind"] = row.get("network.temporal", "TCN")
    row |= {"receptive_field": str(net.receptive_field), "reach": str(task.reach)}
    row["parameters"] = str(sum(parameter.numel() for parameter in net.parameters()))
    for role in ("x", "line"):
        if settings[role] is not None and settings[role] not in row:
            raise ConfigError(f"{role}={settings[role]} is not a setting of this study; use one of {', '.join(row)}")
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
    write_results(folder, rows, task.score_name, settings["x"], settings["line"])
    print(f"{task.score_name} {score:.4f} (chance {task.chance:.3f}), {folder / 'results.csv'}")


def check_out(folder: Path, row: dict[str, str], x: str | None) -> None:
    """Raise `ConfigError` if `row` does not fit the results in `folder`, or if `x` cannot be an axis."""
    for other in [*read_rows(folder / "results.csv"), row]:
        if other["task"] != row["task"]:
            raise ConfigError(f"out={folder} holds results of {other['task']}; choose another folder for {row['task']}")
        try:
            float(other.get(x or "") or 0)
        except ValueError as error:
            raise ConfigError(
                f"x={x} is {other[x or '']!r} in a row, but a plot's axis needs numbers; choose another"
            ) from error


def fit(net: nn.Module, task: Task, settings: dict[str, Any]) -> float:
    """Train with Adam. The learning rate falls to zero along half a cosine.

    Returns:
        The mean loss of the last tenth of the steps.
    """
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
    """Score the network on `examples` sequences, the same in every study. A task with fewer sequences uses all."""
    net.eval()
    sequence, target = task.batch(examples, torch.Generator().manual_seed(1_000_003), training=False)
    return task.score(torch.cat([net(part) for part in sequence.split(64)]), target)


def flatten_settings(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names. A target becomes the name of its class."""
    result: dict[str, Any] = {}
    for key, value in settings.items():
        if key == "_target_":
            result[prefix.rstrip(".")] = str(value).rsplit(".", 1)[-1]
        elif isinstance(value, Mapping) and value:
            result |= flatten_settings(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of an earlier study. Returns an empty list if there is no file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def merge(rows: list[dict[str, str]], row: dict[str, str]) -> list[dict[str, str]]:
    """Add a row, or replace the row with the same settings."""

    def settings(of: dict[str, str]) -> dict[str, str]:
        return {key: value for key, value in of.items() if key not in MEASURED and value}

    return [other for other in rows if settings(other) != settings(row)] + [row]


def write_results(folder: Path, rows: list[dict[str, str]], score_name: str, x: str | None, line: str | None) -> None:
    """Write results.csv, table.md and, if `x` names a setting, plot.png. With `x`, table.md has two tables."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key not in MEASURED)) + list(MEASURED)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    table = (
        as_table(rows, columns)
        if x is None
        else scores_by_x(rows, x, line, score_name) + "\n" + as_table(rows, columns)
    )
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
    """Format rows as Markdown, with the settings that differ and the measured values."""
    shown = [
        key for key in columns if len({row.get(key, "") for row in rows}) > 1 or key in ("score", "receptive_field")
    ]
    shown = [key for key in shown if key != "loss"]
    lines = ["| " + " | ".join(key.removeprefix("network.") for key in shown) + " |", "| --- " * len(shown) + "|"]
    lines += ["| " + " | ".join(row.get(key, "") for key in shown) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def scores_by_x(rows: list[dict[str, str]], x: str, line: str | None, score_name: str) -> str:
    """Format the plot as Markdown: a row for each of its lines, a column for each value of `x`.

    If several runs share a cell, such as those of several seeds, it shows the lowest, the median and the highest score.
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
    """Run the command line."""
    config.command(run, "study")
