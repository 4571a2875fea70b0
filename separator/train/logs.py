"""What a training run tells: rows in CSV files, TensorBoard, and a picture of the curves."""

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
    """Rows of `train.csv` and `valid.csv` in `folder`, mirrored to TensorBoard.

    Opened at step `from_step`, it forgets the rows that a killed run wrote after its last checkpoint.
    """

    def __init__(self, folder: Path, from_step: int) -> None:
        self.folder = folder
        for name in ("train", "valid"):
            _forget_after(folder / f"{name}.csv", from_step)
        self._thread_hook, threading.excepthook = threading.excepthook, self._met_in_thread
        self._board = SummaryWriter(folder / "tensorboard", purge_step=from_step + 1)

    def add(self, name: str, step: int, values: dict[str, float]) -> None:
        """Appends a row to `name`.csv ("train" or "valid"); the values of a file are always the same ones."""
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
        """Gives TensorBoard waveforms `[..., time]` to play, as mono, and their spectrograms to show."""
        mono = {part: waveform.reshape(-1, waveform.shape[-1]).mean(0) for part, waveform in waveforms.items()}
        for part, waveform in mono.items():
            # An estimate's level may be open, and then means nothing.
            self._board.add_audio(f"{name}/{part}", waveform / max(1.0, float(waveform.abs().max())), step, sample_rate)
        pictures = {part: waveform.numpy() for part, waveform in mono.items()}
        self._board.add_figure(f"{name}/spectrograms", figures.spectrograms(pictures, sample_rate), step)

    def draw(self) -> None:
        """Brings `curves.png` up to date."""
        figures.draw_curves(self.folder)

    def close(self) -> None:
        """Writes out what TensorBoard still holds."""
        try:
            self._board.close()
        finally:
            threading.excepthook = self._thread_hook

    def _met_in_thread(self, met: threading.ExceptHookArgs) -> None:
        """Says nothing of what TensorBoard's thread could not write: the next call in ours raises that again."""
        if type(met.thread).__name__ != "_AsyncWriterThread" or not isinstance(met.exc_value, OSError):
            self._thread_hook(met)


def _forget_after(path: Path, step: int) -> None:
    """Leaves out the rows after a step. Whoever is killed meanwhile still has all of them."""
    if step == 0:  # not even the columns' names may have been written whole
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
