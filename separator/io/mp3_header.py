"""Length of an MP3 file, from the Xing header in its first frame.

http://gabriel.mp3-tech.org/mp3infotag.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

# Offset in bytes from the header's name to the encoder delays (written by LAME and others) if all fields are present.
DELAYS = 141
# From this sample rate on, in Hz, a frame has 1152 samples. Below it, a frame has 576 samples.
LONG_FRAMES_HZ = 32000


@dataclass(frozen=True)
class Mp3Header:
    """Content of the header.

    Attributes:
        frames: number of frames.
        silence: samples of silence that the encoder added before and after the recording.
    """

    frames: int
    silence: int

    def num_samples(self, sample_rate: int) -> int:
        """Return the length of the recording in samples. `sample_rate` is the file's rate in Hz."""
        return max(0, self.frames * (1152 if sample_rate >= LONG_FRAMES_HZ else 576) - self.silence)


def read(file: BinaryIO) -> Mp3Header | None:
    """Read the header of an open file. Return None if the file has no such header."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head.startswith(b"ID3"):
        for byte in head[6:10]:  # 7 bits per byte
            start = start << 7 | byte & 0x7F
        start += 10
    file.seek(start)
    frame = file.read(4096)
    places = [place for place in (frame.find(b"Xing"), frame.find(b"Info")) if place >= 0]
    if not places or len(frame) < min(places) + DELAYS + 3:
        return None
    tag = frame[min(places) :]
    flags, frames = struct.unpack(">II", tag[4:12])
    if not flags & 1:
        return None
    delays = int.from_bytes(tag[DELAYS : DELAYS + 3], "big") if flags & 15 == 15 else 0
    return Mp3Header(frames, (delays >> 12) + (delays & 0xFFF))
