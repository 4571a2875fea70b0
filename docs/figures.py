"""Make the drawings of docs/concepts.md: python docs/figures.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

IMAGES = Path(__file__).parent / "images"
INK, BLUE, ORANGE, GREY = "#22303c", "#2f6fb3", "#d9822b", "#c9d3dc"
matplotlib.use("Agg")
# The same file every time.
matplotlib.rcParams |= {"svg.hashsalt": "separator", "font.size": 11, "text.color": INK}


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of this many inches, with axes of this many units and nothing on them."""
    figure, axes = pyplot.subplots(figsize=(width, height))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axes


def box(axes: Axes, x: float, y: float, width: float, height: float, text: str, color: str = BLUE) -> None:
    axes.add_patch(pyplot.Rectangle((x, y), width, height, facecolor=color + "22", edgecolor=color, linewidth=1.4))
    axes.text(x + width / 2, y + height / 2, text, ha="center", va="center")


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "shrinkA": 0, "shrinkB": 0})
    axes.text((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + 0.08, text, ha="center", va="bottom", fontsize=9)


def network() -> Figure:
    """Encoder, separator, masks, decoder, with the shapes between them."""
    figure, axes = canvas(10.6, 3.6)
    box(axes, 1.5, 1.9, 1.2, 0.9, "encoder")
    box(axes, 4.4, 1.9, 1.6, 0.9, "separator\nTCN", ORANGE)
    box(axes, 8.0, 1.9, 1.2, 0.9, "decoder")
    axes.add_patch(pyplot.Circle((7.2, 2.35), 0.16, facecolor="white", edgecolor=INK))
    axes.text(7.2, 2.35, "$\\times$", ha="center", va="center")
    arrow(axes, (0.1, 2.35), (1.5, 2.35), "mixture\n[batch, time]")
    arrow(axes, (2.7, 2.35), (4.4, 2.35), "encoded\n[batch, filter, frame]")
    arrow(axes, (6.0, 2.35), (7.04, 2.35), "masks")
    arrow(axes, (7.36, 2.35), (8.0, 2.35))
    arrow(axes, (9.2, 2.35), (10.5, 2.35), "stems\n[batch,\nsource, time]")
    axes.plot([2.85, 2.85, 7.2], [2.35, 3.3, 3.3], color=INK, linewidth=1.2)
    arrow(axes, (7.2, 3.3), (7.2, 2.51))
    # One block of the separator, enlarged.
    axes.plot([4.4, 1.2], [1.9, 1.35], color=GREY)
    axes.plot([6.0, 9.7], [1.9, 1.35], color=GREY)
    axes.add_patch(pyplot.Rectangle((1.2, 0.15), 8.5, 1.2, facecolor="none", edgecolor=GREY, linestyle="--"))
    names = ["1x1 conv\nB → H", "PReLU\nnorm", "depthwise\ndilation $2^x$", "PReLU\nnorm", "1x1 conv\nH → B", "+"]
    for place, name in enumerate(names):
        box(axes, 1.5 + 1.36 * place, 0.4, 1.1, 0.7, name, ORANGE)
        if place:
            arrow(axes, (1.24 + 1.36 * place, 0.75), (1.5 + 1.36 * place, 0.75))
    return figure


def temporal() -> Figure:
    """What one frame of the last block sees of the first, causal and not."""
    figure, all_axes = pyplot.subplots(1, 2, figsize=(10.6, 3.2))
    for axes, causal in zip(all_axes, (False, True), strict=True):
        seen = {16}
        for layer, dilation in enumerate((4, 2, 1)):
            offsets = (-2 * dilation, -dilation, 0) if causal else (-dilation, 0, dilation)
            for frame in seen:
                for offset in offsets:
                    axes.plot([frame + offset, frame], [2 - layer, 3 - layer], color=BLUE, linewidth=1, zorder=1)
            axes.scatter(sorted(seen), [3 - layer] * len(seen), color=ORANGE, zorder=3, s=36)
            seen = {frame + offset for frame in seen for offset in offsets}
        axes.scatter(sorted(seen), [0] * len(seen), color=ORANGE, zorder=3, s=36)
        for layer in range(4):
            axes.scatter(np.arange(33), [layer] * 33, color=GREY, zorder=2, s=14)
        axes.set_yticks(range(4), ["input", "dilation 1", "dilation 2", "dilation 4"])
        axes.set_xticks([16], ["this frame"])
        axes.set_title("causal: only the past" if causal else "not causal: past and future", fontsize=11)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    figure.tight_layout()
    return figure


def chunks() -> Figure:
    """Chunks that overlap, their stems in another order, matched and joined."""
    figure, axes = canvas(10.6, 3.5)
    axes.text(0.1, 3.05, "recording")
    axes.add_patch(pyplot.Rectangle((1.6, 2.95), 8.6, 0.3, facecolor=GREY, edgecolor="none"))
    orders = ((BLUE, ORANGE), (ORANGE, BLUE), (BLUE, ORANGE))
    for number, order in enumerate(orders):
        start = 1.6 + 2.8 * number
        axes.text(start + 0.05, 2.62, f"chunk {number + 1}", fontsize=9)
        for row, color in enumerate(order):
            axes.add_patch(
                pyplot.Rectangle((start, 2.25 - 0.3 * row), 3.0, 0.24, facecolor=color + "aa", edgecolor="none")
            )
    axes.text(0.1, 2.15, "stems of\neach chunk", va="center")
    for number in (1, 2):
        x = 1.6 + 2.8 * number + 0.1
        axes.annotate("", (x, 1.25), (x, 1.85), arrowprops={"arrowstyle": "-|>", "color": INK})
        axes.text(x + 0.12, 1.5, "swap" if number == 1 else "swap back", fontsize=9, va="center")
    axes.text(0.1, 0.85, "stems of the\nrecording", va="center")
    for row, (color, name) in enumerate(((BLUE, "speaker1"), (ORANGE, "speaker2"))):
        axes.add_patch(pyplot.Rectangle((1.6, 0.9 - 0.4 * row), 8.6, 0.28, facecolor=color + "aa", edgecolor="none"))
        axes.text(1.7, 1.04 - 0.4 * row, name, fontsize=9, va="center")
    return figure


def main() -> None:
    for make in (network, temporal, chunks):
        figure = make()
        figure.savefig(IMAGES / f"{make.__name__}.svg", facecolor="white", metadata={"Date": None})
        pyplot.close(figure)


if __name__ == "__main__":
    main()
