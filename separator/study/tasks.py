"""The three tasks by which the literature judges temporal convolutions: adding, copying, digits pixel by pixel.

As in Bai, Kolter & Koltun 2018 (arXiv:1803.01271), section 4, and their code, except that the symbols to be
copied come as one channel each, not as a number, and the sign to say them comes once unless asked for. Each task
draws batches `[batch, channel, frame]` with their targets and scores a network's output `[batch, output, frame]`.
"""

from __future__ import annotations

import gzip
import struct
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from separator.errors import DataError, check_whole


class Task(ABC):
    """A task on sequences.

    Attributes:
        num_inputs: channels of the sequence.
        num_outputs: values for each frame of the output.
        score_name: what `score` gives.
        chance: the score of a network that has learned nothing about the input.
        reach: frames that the output must see, its own included, so that the task can be solved.
    """

    num_inputs: int
    num_outputs: int
    score_name: str
    chance: float
    reach: int

    @abstractmethod
    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """Sequences `[batch, channel, frame]` and their targets."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """What is minimized, from the output `[batch, output, frame]`."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> float:
        """Higher is better for accuracies, lower for errors; see `score_name`."""


class Adding(Task):
    """The sum of the two marked numbers among `length` (after Hochreiter & Schmidhuber 1997), read at the last frame.

    Two channels: numbers from 0 to 1, and a 1 at any two frames. Always to say 1 has an error of 1/6.
    """

    num_inputs, num_outputs, score_name, chance = 2, 1, "squared error", 1 / 6

    def __init__(self, length: int = 200) -> None:
        check_whole("task.length", length, least=2)
        self.length = self.reach = length

    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """`[batch, 2, frame]`, `[batch]`."""
        numbers = torch.rand(size, self.length, generator=generator)
        marked = torch.rand(size, self.length, generator=generator).topk(2, dim=1).indices
        marks = torch.zeros_like(numbers).scatter_(1, marked, 1.0)
        return torch.stack([numbers, marks], dim=1), (numbers * marks).sum(1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error at the last frame."""
        return F.mse_loss(output[:, 0, -1], target)

    def score(self, output: Tensor, target: Tensor) -> float:
        """The same."""
        return float(self.loss(output, target))


class Copying(Task):
    """Copy memory: ten symbols of eight, blanks, and when a sign comes the symbols again.

    Each symbol is to be said `gap` + 10 frames after it came, from the frame after the sign on. Ten channels: one for
    each symbol, the blank and the sign. Guessing is right once in eight; a network that sees fewer than 11 frames does
    not even know when to speak. With `lasting_sign` the sign stays to the end, as in Bai's code, which tells that, and
    takes a network several times as long to learn.
    """

    num_inputs, num_outputs, score_name, chance = 10, 10, "accuracy", 1 / 8
    SYMBOLS, BLANK, SIGN = 10, 0, 9

    def __init__(self, gap: int = 100, lasting_sign: bool = False) -> None:
        check_whole("task.gap", gap)
        self.gap, self.lasting_sign = gap, lasting_sign
        self.reach = gap + self.SYMBOLS + 1

    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """`[batch, 10, frame]`, `[batch, frame]`."""
        symbols = torch.randint(1, self.SIGN, (size, self.SYMBOLS), generator=generator)
        blank = torch.full((size, self.gap + self.SYMBOLS), self.BLANK)
        sequence = torch.cat([symbols, blank], dim=1)
        first = self.gap + self.SYMBOLS - 1
        sequence[:, first : None if self.lasting_sign else first + 1] = self.SIGN
        return F.one_hot(sequence, self.num_inputs).float().mT, torch.cat([blank, symbols], dim=1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy over all frames."""
        return F.cross_entropy(output, target)

    def score(self, output: Tensor, target: Tensor) -> float:
        """Fraction of the last ten symbols that are right."""
        right = output[..., -self.SYMBOLS :].argmax(1) == target[:, -self.SYMBOLS :]
        return float(right.float().mean())


class Digits(Task):
    """Which digit it is, from its pixels one by one, read at the last of them.

    scikit-learn's 1,797 digits of 8 x 8, a fifth of them kept for the score; or MNIST's, from a folder with its
    four IDX files as they are published, compressed or not.
    """

    num_inputs, num_outputs, score_name, chance = 1, 10, "accuracy", 1 / 10

    def __init__(self, root: str | None = None) -> None:
        if root is None:
            from sklearn.datasets import load_digits

            digits = load_digits()
            images, labels = digits.images / 16.0, digits.target
            order = np.random.default_rng(0).permutation(len(labels))
            test, train = order[: len(order) // 5], order[len(order) // 5 :]
            parts = (images[train], labels[train]), (images[test], labels[test])
        else:
            parts = tuple(
                (
                    read_idx(Path(root), f"{name}-images-idx3-ubyte") / 255.0,
                    read_idx(Path(root), f"{name}-labels-idx1-ubyte"),
                )
                for name in ("train", "t10k")
            )  # type: ignore[assignment]
        for images, labels in parts:
            if len(images) != len(labels):
                raise DataError(f"{root}: {len(images)} images with {len(labels)} labels; get the files again")
        self._train, self._test = (
            (torch.from_numpy(images).float().flatten(1).unsqueeze(1), torch.from_numpy(labels).long())
            for images, labels in parts
        )
        self.reach = self._train[0].shape[-1]

    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """`[batch, 1, frame]`, `[batch]`; those kept for the score in order, if there are so many."""
        images, labels = self._train if training else self._test
        if training:
            chosen = torch.randint(0, len(labels), (size,), generator=generator)
        else:
            chosen = torch.arange(min(size, len(labels)))
        return images[chosen], labels[chosen]

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy at the last frame."""
        return F.cross_entropy(output[..., -1], target)

    def score(self, output: Tensor, target: Tensor) -> float:
        """Fraction of the digits that are right."""
        return float((output[..., -1].argmax(1) == target).float().mean())


def read_idx(folder: Path, name: str) -> np.ndarray:
    """An IDX file of unsigned bytes, `name` or `name`.gz. Raises `DataError` if it is missing or another kind of file.

    The format: two zero bytes, 8 for unsigned bytes, the number of axes, their sizes in 32 bits, the values.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: there is no {name} or {name}.gz; expected the four IDX files of MNIST")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        if zeros or kind != 8:
            raise ValueError(f"its first bytes are {data[:4].hex()}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise DataError(f"{path}: is not an IDX file of unsigned bytes ({error})") from error
