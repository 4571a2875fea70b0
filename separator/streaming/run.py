"""Run `separate --stream`: separate and write audio while it arrives.

An interruption ends the stream between two blocks. The stems up to that point are written, and every file is closed.
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

# Length of the queue, in seconds, at which the user is warned that the model is too slow for the microphone.
MAX_DELAY_SECONDS = 1.0


@dataclass(frozen=True)
class LiveResult:
    """Result of a stream.

    Attributes:
        seconds: length of the audio, in seconds.
        work_seconds: computing time of the separation, in seconds.
        clipped: number of samples of the stems above full scale.
        gaps: how often samples of the microphone were lost.
        interrupted: whether SIGINT or SIGTERM ended the stream.
    """

    seconds: float
    work_seconds: float
    clipped: int
    gaps: int
    interrupted: bool


def run(stream: Stream, source: Source, sink: Sink) -> LiveResult:
    """Read from the source, separate, and write to the sink, until the source ends or SIGINT or SIGTERM arrives.

    At the end, the samples that were already read are separated and written, unless the sink failed. A second signal
    stops the process at once.

    Raises:
        AudioError: if the source or the sink failed.
    """
    samples = clipped = 0
    work = 0.0
    has_warned = False
    failure: SeparatorError | None = None
    writable = True
    with _interruptible(source.stop) as interrupted:

        def write(stems: np.ndarray) -> None:
            nonlocal clipped, writable
            clipped += int((np.abs(stems) > 1).sum())
            # After a failed write, later samples would be at the wrong time.
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
                if (
                    not has_warned
                    and isinstance(source, MicrophoneSource)
                    and source.queued_seconds > MAX_DELAY_SECONDS
                ):
                    has_warned = True
                    print("this machine is too slow for the model: the delay of the stems grows", file=sys.stderr)
        except SeparatorError as error:
            failure = error
        if samples and writable:
            try:
                write(stream.flush())
            except SeparatorError as error:
                failure = failure or error
    if failure is None and not samples:
        failure = AudioError("interrupted before any samples arrived")
    if failure is not None:
        raise failure
    return LiveResult(samples / source.sample_rate, work, clipped, source.gaps, interrupted.is_set())


@contextlib.contextmanager
def _interruptible(stop: threading.Event) -> Iterator[threading.Event]:
    """Let SIGINT and SIGTERM set `stop` and the returned event. A second signal ends the process as usual."""
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
