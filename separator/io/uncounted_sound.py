"""Sound that the header of a WAV, AIFF or FLAC file does not count.

A recorder that was killed leaves a size of 0 or of the last update in the header, and `cat a.wav b.wav` puts one file
behind another. libsndfile stops where the first header says. WAV: RIFF, RF64 (EBU Tech 3306); AIFF: FORM.
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
# Chunks that hold samples -> bytes between their header and the first sample.
SAMPLES = {b"data": 0, b"SSND": 8}
# A FLAC file begins with one of these: its name, and the header of the 34 bytes of STREAMINFO, last block or not.
FLAC_HEADERS = (b"fLaC\x00\x00\x00\x22", b"fLaC\x80\x00\x00\x22")
# A size from here on was written before the length was known.
UNKNOWN_SIZE = 2**31 - 2**20
# What other programs put behind a WAV file, and bytes that are too few to be sound.
TAGS = (b"ID3", b"TAG", b"APETAGEX", b"LIST")
MIN_BYTES = 512
# Bytes that are read at a time.
BLOCK = 2**20


@dataclass(frozen=True)
class Rest:
    """Sound behind the samples that the first header counts.

    Attributes:
        start: byte at which it begins.
        end: byte behind its last one.
        is_file: whether it is another file with a header; otherwise samples in the format of those before.
    """

    start: int
    end: int
    is_file: bool


class Window(io.RawIOBase):
    """The bytes of an open file from `start` to `end`, as a file for libsndfile."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._place = file, start, end - start, 0

    def readable(self) -> bool:
        """Always true."""
        return True

    def seekable(self) -> bool:
        """Always true."""
        return True

    def tell(self) -> int:
        """Bytes from the start of the window."""
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Goes to a byte of the window."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fills a buffer; returns the number of bytes."""
        self._file.seek(self._start + self._place)
        data = self._file.read(max(0, min(len(buffer), self._size - self._place)))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def flac_rests(file: BinaryIO) -> list[Rest]:
    """Finds FLAC files that were joined to a FLAC file. Reads all of it."""
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
    return [Rest(start, end, is_file=True) for start, end in zip(starts, [*starts[1:], place], strict=True) if start]


def riff_rests(file: BinaryIO) -> list[Rest]:
    """Finds sound behind the samples that a WAV or AIFF header counts. Empty for a file that is as its header says."""
    end = file.seek(0, os.SEEK_END)
    found: list[Rest] = []
    start, uncounted = _follow(file, 0, end)
    while start is not None:
        following, uncounted = _follow(file, start, end)
        found.append(Rest(start, end if following is None else following, is_file=True))
        start = following
    return [*found, uncounted] if uncounted is not None else found


def _follow(file: BinaryIO, start: int, end: int) -> tuple[int | None, Rest | None]:
    """Goes through the chunks of one file. Returns where another file begins, and samples that were not counted."""
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
            behind = _next_chunk(file, order, place + 8 + size, end)
            if behind is None:
                counted = max(0, place + 8 + size - first)
                return None, _uncounted(file, first + counted // frame * frame, end)
            place = behind
            continue
        place += 8 + size + size % 2
    return None, None


def _next_chunk(file: BinaryIO, order: str, place: int, end: int) -> int | None:
    """Where the chunk behind the samples begins, or the end of the file; None if there is something else."""
    for at in (place, place + 1):  # some programs forget the byte that makes a size even
        if at >= end:
            return end
        name, size = struct.unpack(f"{order}4sI", _bytes(file, at, 8).ljust(8, b"\0"))
        if _is_file(file, at) or (all(32 <= letter < 127 for letter in name) and at + 8 + size <= end + 1):
            return at
    return None


def _uncounted(file: BinaryIO, start: int, end: int) -> Rest | None:
    """What is behind the counted samples, unless that is a tag, zeros, or too short to be sound."""
    if end - start < MIN_BYTES or _bytes(file, start, 8).startswith(TAGS):
        return None
    file.seek(start)
    if not any(map(any, iter(lambda: file.read(65536), b""))):
        return None
    return Rest(start, end, is_file=False)


def _is_file(file: BinaryIO, place: int) -> bool:
    return _bytes(file, place, 4) in BYTE_ORDERS and _bytes(file, place + 8, 4) in FORMS


def _bytes(file: BinaryIO, place: int, count: int) -> bytes:
    file.seek(place)
    return file.read(count)
