"""The three tasks with which the literature tests temporal convolutions: adding, copying, digits pixel by pixel.

They follow Bai, Kolter & Koltun 2018 (arXiv:1803.01271), section 4, and their code. In the copying task two things
differ: each symbol has its own channel instead of a number, and the sign that asks for them lasts one frame by default.
Each task draws batches `[batch, channel, frame]` with their targets, and scores a network's output
`[batch, output, frame]`.
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
        score_name: name of what `score` returns.
        chance: score of a network that has learned nothing about the input.
        reach: frames that the output must depend on to solve the task, including its own.
    """

    num_inputs: int
    num_outputs: int
    score_name: str
    chance: float
    reach: int

    @abstractmethod
    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """Draw sequences `[batch, channel, frame]` and their targets."""

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Compute the loss to minimize, from the output `[batch, output, frame]`."""

    @abstractmethod
    def score(self, output: Tensor, target: Tensor) -> float:
        """Compute the score. For accuracies higher is better, for errors lower. See `score_name`."""


class Adding(Task):
    """Add the two marked numbers among `length` (after Hochreiter & Schmidhuber 1997). Read at the last frame.

    There are two channels: numbers from 0 to 1, and a 1 at any two frames. A network that always outputs 1 has an
    error of 1/6.
    """

    num_inputs, num_outputs, score_name, chance = 2, 1, "squared error", 1 / 6

    def __init__(self, length: int = 200) -> None:
        check_whole("task.length", length, least=2)
        self.length = self.reach = length

    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """Draw `[batch, 2, frame]` and `[batch]`."""
        numbers = torch.rand(size, self.length, generator=generator)
        marked = torch.rand(size, self.length, generator=generator).topk(2, dim=1).indices
        marks = torch.zeros_like(numbers).scatter_(1, marked, 1.0)
        return torch.stack([numbers, marks], dim=1), (numbers * marks).sum(1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Mean squared error at the last frame."""
        return F.mse_loss(output[:, 0, -1], target)

    def score(self, output: Tensor, target: Tensor) -> float:
        """Mean squared error at the last frame."""
        return float(self.loss(output, target))


class Copying(Task):
    """Copy memory: ten symbols of eight kinds, then blanks, then a sign, after which the symbols must be repeated.

    Each symbol is due `gap` + 10 frames after its input, starting at the frame after the sign. There are ten channels:
    one for each symbol, the blank and the sign. A guess is right in one of eight cases. A network that sees fewer than
    11 frames does not even know when to start. With `lasting_sign` the sign stays until the end, as in Bai's code. It
    then shows when to output symbols, and a network needs several times as long to learn.
    """

    num_inputs, num_outputs, score_name, chance = 10, 10, "accuracy", 1 / 8
    SYMBOLS, BLANK, SIGN = 10, 0, 9

    def __init__(self, gap: int = 100, lasting_sign: bool = False) -> None:
        check_whole("task.gap", gap)
        self.gap, self.lasting_sign = gap, lasting_sign
        self.reach = gap + self.SYMBOLS + 1

    def batch(self, size: int, generator: torch.Generator, training: bool = True) -> tuple[Tensor, Tensor]:
        """Draw `[batch, 10, frame]` and `[batch, frame]`."""
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
    """Recognize a digit from its pixels, one pixel per frame. Read at the last frame.

    By default these are scikit-learn's 1,797 digits of 8 x 8 pixels, of which a fifth is kept for the score. With
    `root` they are MNIST's, from a folder with the four IDX files as published, compressed or not.
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
        """Draw `[batch, 1, frame]` and `[batch]`. For the score: the first `size` test digits, or all if fewer."""
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
    """Read an IDX file of unsigned bytes, `name` or `name`.gz. Raise `DataError` if it is missing or not IDX.

    The format: two zero bytes, 8 for unsigned bytes, the number of axes, their sizes in 32 bits, the values.
    """
    path = next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)
    if path is None:
        raise DataError(f"{folder}: {name} and {name}.gz not found; expected the four IDX files of MNIST")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zeros, kind, axes = struct.unpack(">HBB", data[:4])
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        if zeros or kind != 8:
            raise ValueError(f"its first bytes are {data[:4].hex()}")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()
    except (OSError, EOFError, struct.error, ValueError) as error:
        raise DataError(f"{path}: not an IDX file of unsigned bytes ({error}); get the file again") from error
