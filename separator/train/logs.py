"""Logs of a training run: CSV files, TensorBoard, and a plot of the curves."""

from __future__ import annotations

import csv
import threading
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from separator import figures
from separator.io import atomic


class RunLog:
    """Writer of `train.csv` and `valid.csv` in `folder`, and of the same values to TensorBoard.

    Rows after step `from_step` are removed: a killed run wrote them after its last checkpoint.
    """

    def __init__(self, folder: Path, from_step: int) -> None:
        self.folder = folder
        for name in ("train", "valid"):
            _remove_rows_after(folder / f"{name}.csv", from_step)
        self._thread_hook, threading.excepthook = threading.excepthook, self._on_thread_error
        self._board = SummaryWriter(folder / "tensorboard", purge_step=from_step + 1)

    def add(self, name: str, step: int, values: dict[str, float]) -> None:
        """Append a row to `name`.csv ("train" or "valid"). Every row of a file must have the same columns."""
        path = self.folder / f"{name}.csv"
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", *values])
            writer.writerow([step, *(f"{value:.6g}" for value in values.values())])
        for key, value in values.items():
            self._board.add_scalar(f"{name}/{key}", value, step)

    def add_mixture(self, name: str, step: int, waveforms: dict[str, Tensor], sample_rate: int) -> None:
        """Write waveforms `[..., time]` to TensorBoard, as mono audio and as spectrograms."""
        mono = {part: waveform.reshape(-1, waveform.shape[-1]).mean(0) for part, waveform in waveforms.items()}
        for part, waveform in mono.items():
            # Some objectives leave the level of an estimate undefined, so it is limited to a peak of 1.
            self._board.add_audio(f"{name}/{part}", waveform / max(1.0, float(waveform.abs().max())), step, sample_rate)
        pictures = {part: waveform.numpy() for part, waveform in mono.items()}
        self._board.add_figure(f"{name}/spectrograms", figures.spectrograms(pictures, sample_rate), step)

    def draw(self) -> None:
        """Update `curves.png`."""
        figures.draw_curves(self.folder)

    def close(self) -> None:
        """Flush and close TensorBoard."""
        try:
            self._board.close()
        finally:
            threading.excepthook = self._thread_hook

    def _on_thread_error(self, args: threading.ExceptHookArgs) -> None:
        """Ignore a write error in TensorBoard's thread: the next call in the main thread raises it again."""
        if type(args.thread).__name__ != "_AsyncWriterThread" or not isinstance(args.exc_value, OSError):
            self._thread_hook(args)


def _remove_rows_after(path: Path, step: int) -> None:
    """Remove the rows after a step. The file stays complete if the process is killed meanwhile."""
    if step == 0:  # even the header may be incomplete
        path.unlink(missing_ok=True)
    if not path.exists():
        return
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= step]
    if kept != rows:
        atomic.write_together({path: lambda to: _write_rows(to, [header, *kept])})


def _write_rows(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
