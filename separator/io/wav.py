"""Header and sample encoding of WAV files.

libsndfile writes the current time into the headers of floating-point files. The files written here are reproducible.
"""

from __future__ import annotations

import struct

import numpy as np

from separator.io.audio import FLOAT_SUBTYPES, KEPT_SUBTYPES, quantize

# Largest size in a header. In a pipe it means "until the end", in an RF64 file "see the ds64 chunk".
MAX_SIZE = 2**32 - 1


def wav_header(sample_rate: int, channels: int, subtype: str, data_size: int, room: bool = False) -> bytes:
    """Return the header of a WAV file.

    Args:
        sample_rate: Hz.
        channels: number of channels.
        subtype: libsndfile's name of the sample format, one of `KEPT_SUBTYPES`.
        data_size: bytes of all samples.
        room: whether to reserve a chunk for sizes above 32 bits (default: False). The header is then RF64 if the file
            needs it. Otherwise the chunk has no meaning.
    """
    width, code = KEPT_SUBTYPES[subtype], 3 if subtype in FLOAT_SUBTYPES else 1
    frame = channels * width
    rate = min(sample_rate * frame, MAX_SIZE)  # bytes per second, which readers ignore
    layout = struct.pack("<HHIIHH", code, channels, sample_rate, rate, frame, 8 * width)
    start = b"WAVE" + b"JUNK" * room + struct.pack("<I", 28) * room + bytes(28) * room
    end = b"fmt " + struct.pack("<I", len(layout)) + layout + b"data"
    size = len(start) + len(end) + 4 + data_size
    if room and size > MAX_SIZE:
        sizes = struct.pack("<QQQI", size, data_size, data_size // frame, 0)
        return b"RF64" + _size(MAX_SIZE) + b"WAVEds64" + struct.pack("<I", 28) + sizes + end + _size(MAX_SIZE)
    return b"RIFF" + _size(size) + start + end + _size(data_size)


def encode(samples: np.ndarray, subtype: str) -> bytes:
    """Encode float32 `[channel, time]` as interleaved samples. Integers are rounded and clipped at full scale."""
    width = KEPT_SUBTYPES[subtype]
    if subtype in FLOAT_SUBTYPES:
        return samples.T.astype(f"<f{width}").tobytes()
    whole = quantize(samples, subtype).T
    if width == 3:
        top = np.ascontiguousarray(whole, "<i4").view(np.uint8).reshape(*whole.shape, 4)
        return top[..., 1:].tobytes()
    if subtype == "PCM_U8":
        whole = whole ^ np.int32(-(2**31))  # silence is 128
    return (whole >> (32 - 8 * width)).astype(f"<i{width}").tobytes()


def _size(count: int) -> bytes:
    return struct.pack("<I", min(count, MAX_SIZE))
