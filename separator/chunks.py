"""Long recordings in overlapping chunks: split, run, put the sources in order, cross-fade.

Takes any callable from a chunk to its sources, and knows no network. With a callable that returns the chunk
itself, the output is the input, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from separator.errors import ConfigError
from separator.objectives import best_permutation

Run = Callable[[Tensor], Tensor]
OnProgress = Callable[[int, int], None]


def bounds(num_samples: int, segment: int, overlap: int) -> list[tuple[int, int]]:
    """Start and end of each chunk: at most `segment` long, all of one length, overlapping by at least `overlap`.

    Equal lengths leave no short last chunk, in which a network would have little to go by.
    """
    if num_samples <= segment:
        return [(0, num_samples)]
    count = math.ceil((num_samples - overlap) / (segment - overlap))
    last = num_samples - segment
    return [(start, start + segment) for start in (last * number // (count - 1) for number in range(count))]


def in_chunks(
    run: Run,
    mixture: Tensor,
    segment: int,
    overlap: int,
    on_progress: OnProgress | None = None,
    align: bool = True,
) -> Tensor:
    """Applies `run` to chunks of `mixture` and joins the results.

    Each chunk's sources are put in the order in which they fit the sources so far best, where both are
    known: the smallest squared difference over the overlap, that is, the largest sum of products. That
    weighs a stretch by its energy, so that silence has no say. Then the two are cross-faded.

    Args:
        run: `[channel, time]` -> `[source, channel, time]`, any number of samples.
        mixture: `[channel, time]`.
        segment: samples in a chunk.
        overlap: samples that neighbouring chunks share at least.
        on_progress: called with the samples done and those in all.
        align: whether a chunk's sources may come in any order; if not, they are joined as they come.

    Returns:
        `[source, channel, time]`.

    Raises:
        ConfigError: if `overlap` is not shorter than `segment`.
    """
    if not 0 <= overlap < segment:
        raise ConfigError(f"chunks of {segment} samples cannot overlap by {overlap}; overlap must be 0 to under 1")
    num_samples = mixture.shape[-1]
    output: Tensor | None = None
    done = 0
    for start, end in bounds(num_samples, segment, overlap):
        sources = run(mixture[:, start:end])
        if output is None:
            output = mixture.new_empty(*sources.shape[:-1], num_samples)
        shared = done - start
        if shared > 0:
            before = output[..., start:done]
            if align:
                sources = sources[_order(before, sources[..., :shared])]
            # before + fade * difference is exact where the two agree, unlike a weighted sum.
            fade = torch.linspace(0, 1, shared + 2, dtype=before.dtype, device=before.device)[1:-1]
            sources[..., :shared] = before + fade * (sources[..., :shared] - before)
        output[..., start:end] = sources
        done = end
        if on_progress is not None:
            on_progress(done, num_samples)
    assert output is not None
    return output


def _order(before: Tensor, after: Tensor) -> Tensor:
    """Which source of `after` continues each of `before`, both `[source, channel, time]`."""
    products = torch.einsum("ict,jct->ij", before.double(), after.double())
    return best_permutation(products[None])[0]
