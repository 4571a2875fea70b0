"""Find audio that the header of a WAV, AIFF or FLAC file does not count.

If a recorder was killed, the size in the header is 0 or the size at its last update. `cat a.wav b.wav` appends one
file to another. In both cases libsndfile stops at the length that the first header states. A WAV file is a RIFF or an
RF64 file (EBU Tech 3306). An AIFF file is a FORM file.
"""

from __future__ import annotations

import io
import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

# First four bytes of a file -> byte order of its sizes.
BYTE_ORDERS = {b"RIFF": "<", b"RF64": "<", b"RIFX": ">", b"FORM": ">"}
FORMS = (b"WAVE", b"AIFF", b"AIFC")
# Chunks that contain samples -> bytes between the chunk's header and the first sample.
SAMPLES = {b"data": 0, b"SSND": 8}
# A FLAC file begins with one of these: the marker, and the header of the STREAMINFO block (34 bytes). The first bit of
# that header says whether it is the last metadata block.
FLAC_HEADERS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
# A size of at least this was written before the length was known.
UNKNOWN_SIZE = 2**31 - 2**20
# Data that begins with one of these tags, which other programs append to WAV files, or that is shorter than MIN_BYTES,
# is not audio.
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LIST")
MIN_BYTES = 512
# Bytes per read.
BLOCK = 2**20


@dataclass(frozen=True)
class ExtraAudio:
    """Audio after the samples that the first header counts.

    Attributes:
        start: position of its first byte.
        end: position after its last byte.
        is_file: whether it is another file with a header. Otherwise it is samples in the format of the samples before.
    """

    start: int
    end: int
    is_file: bool


class Window(io.RawIOBase):
    """Part of an open file, from byte `start` up to, but not including, byte `end`, as a file for libsndfile."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._place = file, start, end - start, 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes from the start of the window."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position in the window and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Read into a buffer and return the number of bytes."""
        self._file.seek(self._start + self._place)
        data = self._file.read(max(0, min(len(buffer), self._size - self._place)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def find_extra_flac(file: BinaryIO) -> list[ExtraAudio]:
    """Find FLAC files that were appended to a FLAC file. This reads the whole file."""
    file.seek(0)
    place, tail, starts = 0, b"", []
    while data := file.read(BLOCK):
        searched = tail + data
        for header in FLAC_HEADERS:
            found = searched.find(header)
            while found >= 0:
                starts.append(place - len(tail) + found)
                found = searched.find(header, found + 1)
        place += len(data)
        tail = searched[-7:]
    starts.sort()
    return [
        ExtraAudio(start, end, is_file=True) for start, end in zip(starts, [*starts[1:], place], strict=True) if start
    ]


def find_extra_riff(file: BinaryIO) -> list[ExtraAudio]:
    """Find audio after the samples that a WAV or AIFF header counts. Empty if the header is correct."""
    end = file.seek(0, os.SEEK_END)
    found: list[ExtraAudio] = []
    start, uncounted = _follow(file, 0, end)
    while start is not None:
        following, uncounted = _follow(file, start, end)
        found.append(ExtraAudio(start, end if following is None else following, is_file=True))
        start = following
    return [*found, uncounted] if uncounted is not None else found


def _follow(file: BinaryIO, start: int, end: int) -> tuple[int | None, ExtraAudio | None]:
    """Read the chunks of one file.

    Returns:
        Position of an appended file, and the audio that is not counted. None for what does not exist.
    """
    order = BYTE_ORDERS.get(_bytes(file, start, 4))
    if order is None or _bytes(file, start + 8, 4) not in FORMS:
        return None, None
    place, samples_seen, long_size, frame = start + 12, False, 0, 1
    while place + 8 <= end:
        name, size = struct.unpack(f"{order}4sI", _bytes(file, place, 8))
        if samples_seen and _is_file(file, place):
            return place, None
        if name == b"ds64":
            long_size = struct.unpack("<Q", _bytes(file, place + 16, 8).ljust(8, b"\0"))[0]
        if name == b"fmt ":
            frame = max(1, struct.unpack(f"{order}H", _bytes(file, place + 20, 2))[0])
        if name == b"COMM":
            channels, _, bits = struct.unpack(">HIH", _bytes(file, place + 8, 8))
            frame = max(1, channels * -(-bits // 8))
        if name in SAMPLES and not samples_seen:
            samples_seen = True
            size = long_size or size if size == 2**32 - 1 else size
            first = place + 8 + SAMPLES[name]
            if size >= UNKNOWN_SIZE and place + 8 + size > end:
                return None, None  # libsndfile reads to the end of the file
            following = _next_chunk(file, order, place + 8 + size, end)
            if following is None:
                counted = max(0, place + 8 + size - first)
                return None, _uncounted(file, first + counted // frame * frame, end)
            place = following
            continue
        place += 8 + size + size % 2
    return None, None


def _next_chunk(file: BinaryIO, order: str, place: int, end: int) -> int | None:
    """Return the position of the chunk after the samples, or the end of the file. None if other data is found."""
    for at in (place, place + 1):  # some programs omit the padding byte after an odd size
        if at >= end:
            return end
        name, size = struct.unpack(f"{order}4sI", _bytes(file, at, 8).ljust(8, b"\0"))
        if _is_file(file, at) or (all(32 <= letter < 127 for letter in name) and at + 8 + size <= end + 1):
            return at
    return None


def _uncounted(file: BinaryIO, start: int, end: int) -> ExtraAudio | None:
    """Return the data after the counted samples, unless it is a tag, all zeros, or too short to be audio."""
    if end - start < MIN_BYTES or _bytes(file, start, 8).startswith(TAGS):
        return None
    file.seek(start)
    if not any(map(any, iter(lambda: file.read(65536), b""))):
        return None
    return ExtraAudio(start, end, is_file=False)


def _is_file(file: BinaryIO, place: int) -> bool:
    return _bytes(file, place, 4) in BYTE_ORDERS and _bytes(file, place + 8, 4) in FORMS


def _bytes(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
