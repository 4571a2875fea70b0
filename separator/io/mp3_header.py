"""The length of an MP3 file, which the Xing header in its first frame states.

http://gabriel.mp3-tech.org/mp3infotag.html
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import BinaryIO

# Bytes between the header's name and the delays that LAME and others write, if all of its fields are there.
DELAYS = 141
# Hz from which on a frame has 1152 samples; below it 576.
LONG_FRAMES_HZ = 32000


@dataclass(frozen=True)
class Mp3Header:
    """What the header states.

    Attributes:
        frames: number of frames.
        silence: samples that the encoder added before and behind the recording.
    """

    frames: int
    silence: int

    def num_samples(self, sample_rate: int) -> int:
        """Samples of the recording at `sample_rate` Hz, the file's own."""
        return max(0, self.frames * (1152 if sample_rate >= LONG_FRAMES_HZ else 576) - self.silence)


def read(file: BinaryIO) -> Mp3Header | None:
    """Reads it from an open file; None if it has none."""
    file.seek(0)
    head = file.read(10)
    start = 0
    if head.startswith(b"ID3"):
        for byte in head[6:10]:  # seven bits of each
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
