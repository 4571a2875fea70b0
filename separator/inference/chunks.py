"""Cut a recording into overlapping chunks while it is read, and join the chunks again.

Neither function knows what happens to the chunks in between. If nothing does, the output equals the input bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from separator.errors import ConfigError

# Index of the first sample in the recording, and the samples.
Chunk = tuple[int, np.ndarray]


def cut(blocks: Iterable[np.ndarray], segment: int, overlap: int) -> Iterator[Chunk]:
    """Cut a recording into chunks `[channel, time]`.

    Every chunk is `segment` samples long and overlaps the chunk before it by `overlap` samples. The last chunk may
    overlap by more. That keeps it at full length: a network has too little context in a short chunk. A recording
    shorter than a segment is one chunk.

    Args:
        blocks: the recording in blocks `[channel, time]` of any length.
        segment: chunk length in samples.
        overlap: overlap in samples.

    Raises:
        ConfigError: if `overlap` is not shorter than `segment`.
    """
    if not 0 <= overlap < segment:
        raise ConfigError(
            f"chunks of {segment} samples cannot overlap by {overlap}; set overlap to a fraction from 0 to below 1"
        )
    hop = segment - overlap
    # `kept` begins at the start of the last chunk. Its first `done` samples come before the start of the next chunk.
    start = done = 0
    kept: np.ndarray | None = None
    for block in blocks:
        kept = block if kept is None else np.concatenate([kept, block], axis=-1)
        while kept.shape[-1] - done > segment:
            kept, start = kept[:, done:], start + done
            yield start, kept[:, :segment]
            done = hop
    if kept is not None:
        last = max(0, kept.shape[-1] - segment)
        yield start + last, kept[:, last:]


def join(chunks: Iterable[Chunk]) -> Iterator[np.ndarray]:
    """Join chunks `[..., time]` with a linear crossfade where they overlap. Yield consecutive blocks.

    Each chunk must end later than the chunk before it.
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
            # Where the two are equal, before + fade * difference is exact. A weighted sum is not.
            samples[..., :shared] = before + fade * (samples[..., :shared] - before)
        held, start = samples, begin
    if held is not None:
        yield held
