"""`separate --stream`: audio is separated and written while it arrives.

An interruption ends the stream between two blocks, so that what was separated by then is written and every file
is closed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

import numpy as np

from separator.errors import AudioError, SeparatorError
from separator.streaming.audio_inputs import MicrophoneSource, Source
from separator.streaming.audio_outputs import Sink
from separator.streaming.stream import Stream

# Seconds behind a microphone at which one is told.
BEHIND_SECONDS = 1.0


@dataclass(frozen=True)
class LiveResult:
    """What became of a stream.

    Attributes:
        seconds: that came.
        work_seconds: that separating them took.
        clipped: samples of the stems above full scale.
        gaps: how often samples of the microphone were lost.
        interrupted: whether SIGINT or SIGTERM ended it.
    """

    seconds: float
    work_seconds: float
    clipped: int
    gaps: int
    interrupted: bool


def run(stream: Stream, source: Source, sink: Sink) -> LiveResult:
    """From the source through the stream to the sink until the source ends, or SIGINT or SIGTERM comes.

    What came before is separated and written first, unless the sink itself failed, or a second signal comes.

    Raises:
        AudioError: if the source or the sink failed.
    """
    samples = clipped = 0
    work = 0.0
    told_behind = False
    failure: SeparatorError | None = None
    writable = True
    with _interruptible(source.stop) as interrupted:

        def write(stems: np.ndarray) -> None:
            nonlocal clipped, writable
            clipped += int((np.abs(stems) > 1).sum())
            # What follows a failure would stand at the wrong time.
            writable = False
            sink.write(stems)
            writable = True

        try:
            for block in source:
                started = time.perf_counter()
                stems = stream.push(block)
                samples += block.shape[-1]
                work += time.perf_counter() - started
                write(stems)
                if not told_behind and isinstance(source, MicrophoneSource) and source.waiting_seconds > BEHIND_SECONDS:
                    told_behind = True
                    print("this machine is too slow for the model: the stems come later and later", file=sys.stderr)
        except SeparatorError as error:
            failure = error
        if samples and writable:
            try:
                write(stream.flush())
            except SeparatorError as error:
                failure = failure or error
    if failure is None and not samples:
        failure = AudioError("interrupted before a sample came")
    if failure is not None:
        raise failure
    return LiveResult(samples / source.sample_rate, work, clipped, source.gaps, interrupted.is_set())


@contextlib.contextmanager
def _interruptible(stop: threading.Event) -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set `stop`, and the event that is given, instead of breaking off; a second one breaks off."""
    interrupted = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        interrupted.set()
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
