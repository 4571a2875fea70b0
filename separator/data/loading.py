"""Batches of training mixtures, divided among processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader, Dataset

from separator.data.mixture import Mixture, collate
from separator.errors import ConfigError, SeparatorError


def load_batches(
    mixtures: Dataset,
    batch_size: int,
    steps: range,
    num_workers: int,
    parts: int = 1,
    rank: int = 0,
    num_processes: int = 1,
) -> Iterator[list[Mixture]]:
    """Load this process's share of the batch for each step.

    Step `s` has the mixtures from number `s * batch_size` on. This does not depend on the number of processes and
    workers.

    Args:
        mixtures: endless data set.
        batch_size: mixtures in a step, over all processes.
        steps: step numbers, from 0.
        num_workers: worker processes for this process. 0 loads in this process.
        parts: number of equal parts of the share, for gradient accumulation (default: 1).
        rank: number of this process (default: 0).
        num_processes: number of processes that share a batch (default: 1).

    Returns:
        For each step, `parts` batches.

    Raises:
        ConfigError: if the batch cannot be divided equally.
        DataError: if mixtures cannot be drawn.
    """
    size = check_shares(batch_size, num_processes, parts)
    share = size * parts
    numbers = _Numbers(steps, batch_size, rank * share, share)
    loader = DataLoader(
        mixtures,
        batch_size=size,
        sampler=numbers,
        collate_fn=collate,
        num_workers=num_workers,
        prefetch_factor=4 if num_workers else None,
        # An example depends only on its number, not on the order of the workers or their random state.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    for _ in steps:
        with _without_traceback():
            drawn = [next(batches) for _ in range(parts)]
        yield drawn


@contextlib.contextmanager
def _without_traceback() -> Iterator[None]:
    """Shorten a worker's error message to its last line: torch puts the worker's traceback before it."""
    try:
        yield
    except SeparatorError as error:
        *before, last = str(error).strip().splitlines()
        if not before:
            raise
        raise type(error)(last.partition(": ")[2]) from error


def check_shares(batch_size: int, num_processes: int, parts: int) -> int:
    """Number of mixtures in a part of a process's share.

    Raises:
        ConfigError: if the batch cannot be divided equally.
    """
    size, rest = divmod(batch_size, num_processes * parts)
    if rest:
        raise ConfigError(
            f"trainer.batch_size={batch_size} cannot be divided equally among {num_processes} processes with "
            f"trainer.accumulate={parts} parts each; use a multiple of {num_processes * parts}"
        )
    return size


class _Numbers:
    """Sampler of the numbers of a process's mixtures. It is not a list because there are millions."""

    def __init__(self, steps: range, batch_size: int, first: int, share: int) -> None:
        self.steps, self.batch_size, self.first, self.share = steps, batch_size, first, share

    def __iter__(self) -> Iterator[int]:
        for step in self.steps:
            start = step * self.batch_size + self.first
            yield from range(start, start + self.share)

    def __len__(self) -> int:
        return len(self.steps) * self.share
