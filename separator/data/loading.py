"""Batches of drawn mixtures, shared out among processes."""

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
    """For each step the part of its batch that is a process's own, in `parts` of one size.

    Step `s` has the mixtures from number `s * batch_size` on, however many processes and workers there are.

    Args:
        mixtures: without end.
        batch_size: mixtures in a step, over all processes.
        steps: numbered from 0.
        num_workers: processes that draw, for this one; 0 draws when asked.
        parts: into which the share is cut.
        rank: number of this process.
        num_processes: how many share a batch.

    Raises:
        ConfigError: if the batch cannot be shared out equally.
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
        # The workers' order of arrival and their random state play no part: an example's number says all.
        generator=torch.Generator(),
    )
    batches = iter(loader)
    for _ in steps:
        with _in_one_line():
            drawn = [next(batches) for _ in range(parts)]
        yield drawn


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    """Within, an error of a worker says what it says here: torch puts the worker's traceback before it."""
    try:
        yield
    except SeparatorError as error:
        *before, last = str(error).strip().splitlines()
        if not before:
            raise
        raise type(error)(last.partition(": ")[2]) from error


def check_shares(batch_size: int, num_processes: int, parts: int) -> int:
    """Mixtures in a part of a process's share. Raises `ConfigError` if the batch cannot be shared out equally."""
    size, rest = divmod(batch_size, num_processes * parts)
    if rest:
        raise ConfigError(
            f"trainer.batch_size={batch_size} cannot be shared out equally among {num_processes} processes, each with "
            f"trainer.accumulate={parts} parts"
        )
    return size


class _Numbers:
    """The numbers of a process's mixtures, as a sampler; millions of them, so not as a list."""

    def __init__(self, steps: range, batch_size: int, first: int, share: int) -> None:
        self.steps, self.batch_size, self.first, self.share = steps, batch_size, first, share

    def __iter__(self) -> Iterator[int]:
        for step in self.steps:
            start = step * self.batch_size + self.first
            yield from range(start, start + self.share)

    def __len__(self) -> int:
        return len(self.steps) * self.share
