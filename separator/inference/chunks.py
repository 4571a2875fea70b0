"""A recording in overlapping chunks: cut as it comes, and joined again.

Neither knows what is done with the chunks between. If nothing is, what comes out is what went in, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from separator.errors import ConfigError

# The number of its first sample, and the samples
Chunk = tuple[int, np.ndarray]


def cut(blocks: Iterable[np.ndarray], segment: int, overlap: int) -> Iterator[Chunk]:
    """Chunks `[channel, time]` of a recording that comes in blocks `[channel, time]` of any length.

    Every chunk is `segment` samples long and shares `overlap` of them with the one before, the last one more if that is
    what is left: so it is not a short one, in which a network would have little to go by. A recording shorter than a
    segment is one chunk.

    Raises:
        ConfigError: if `overlap` is not shorter than `segment`.
    """
    if not 0 <= overlap < segment:
        raise ConfigError(f"chunks of {segment} samples cannot overlap by {overlap}; overlap must be 0 to under 1")
    hop = segment - overlap
    # Samples are kept from the last chunk's start on; the first `done` of them are before the next one's.
    start = done = 0
    kept: np.ndarray | None = None
    for block in blocks:
        kept = block if kept is None else np.concatenate([kept, block], axis=-1)
        while kept.shape[-1] - done > segment:
            kept, start = kept[:, done:], start + done
            yield start, kept[:, :segment]
            done = hop
    if kept is not None:
        behind = max(0, kept.shape[-1] - segment)
        yield start + behind, kept[:, behind:]


def join(chunks: Iterable[Chunk]) -> Iterator[np.ndarray]:
    """Chunks `[..., time]`, each of which reaches further than the one before -> blocks, one behind the other.

    Where two overlap, the first is faded out and the second in.
    """
    start = 0
    held: np.ndarray | None = None
    for begin, samples in chunks:
        if held is not None:
            yield held[..., : begin - start]
            before = held[..., begin - start :]
            shared = before.shape[-1]
            fade = np.linspace(0, 1, shared + 2, dtype=samples.dtype)[1:-1]
            samples = samples.copy()
            # before + fade * difference is exact where the two agree, unlike a weighted sum.
            samples[..., :shared] = before + fade * (samples[..., :shared] - before)
        held, start = samples, begin
    if held is not None:
        yield held
