"""Visitors' separations, one after the other in a thread of their own."""

from __future__ import annotations

import enum
import errno
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from separator.errors import ConfigError, SeparatorError
from separator.inference.separation import FileResult, Separator
from separator.io import readers
from separator.web import store

LOG = logging.getLogger(__name__)
# A page that has not asked for news of its job for so long is closed.
GONE_SECONDS = 30.0
# Visitors that may wait: Gradio tells 40 at a time how far they are.
MAX_WAITING = 30
# Models that stay loaded.
MAX_MODELS = 2
# So long the end waits for the piece that is worked on.
CLOSE_SECONDS = 10.0
NO_ROOM = f"{store.NO_ROOM} Please try a shorter recording."


class State(enum.Enum):
    """What becomes of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Recording:
    """A file of a visitor: where it is, and what it is called."""

    path: Path
    name: str


@dataclass(frozen=True)
class Options:
    """What a visitor chose: arguments of `Separator` and of `separate_file`."""

    model: str
    segment_seconds: float
    overlap: float
    shifts: int = 1
    extension: str = "wav"
    subtype: str | None = None
    stems: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a recording: a result, or in words why there is none."""

    recording: Recording
    result: FileResult | None = None
    error: str = ""


@dataclass(eq=False)
class Job:
    """A visitor's recordings and how far they are.

    Attributes:
        phase: what is done with the recording that is worked on; empty while it is separated.
        done_seconds, total_seconds: of it; a total of 0 is not known.
        started: when its separation began.
        outcomes: of the recordings that are finished.
    """

    recordings: Sequence[Recording]
    options: Options
    folder: Path
    state: State = State.WAITING
    phase: str = ""
    done_seconds: float = 0.0
    total_seconds: float = 0.0
    started: float = 0.0
    outcomes: list[Outcome] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _heard: float = field(default_factory=time.monotonic)

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (State.DONE, State.STOPPED)

    @property
    def seconds_left(self) -> float | None:
        """For the recording that is worked on, by how it went so far; None if that is not known yet."""
        if self.state is not State.RUNNING or self.done_seconds <= 0 or self.total_seconds <= 0:
            return None
        return (time.monotonic() - self.started) * (self.total_seconds / self.done_seconds - 1)

    def stop(self) -> None:
        """Ends it as soon as it can be; of the recording that is worked on nothing stays."""
        self._stop.set()
        if self.state is State.WAITING:
            self.state = State.STOPPED

    def hear(self) -> None:
        """Says that it is still asked for."""
        self._heard = time.monotonic()

    @property
    def is_unwanted(self) -> bool:
        """Whether it was stopped, or nobody asks for it any more."""
        return self._stop.is_set() or time.monotonic() - self._heard > GONE_SECONDS


class _Stopped(Exception):  # noqa: N818 - nothing went wrong
    """A job is not wanted any more."""


class Worker:
    """Does jobs in the order in which they came.

    Args:
        device: as of `Separator`.
        longest_seconds: of a recording.

    Attributes:
        after: called with the job and the outcome of each recording, with a result or not; it is part of the work.
    """

    def __init__(
        self,
        device: str = "auto",
        longest_seconds: float = 10_800.0,
    ) -> None:
        self.device, self.longest_seconds = device, longest_seconds
        self.after: Callable[[Job, Outcome], Any] = lambda job, outcome: None
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._unfinished: list[Job] = []
        self._lock = threading.Lock()
        self._models: dict[str, Separator] = {}
        self._thread = threading.Thread(target=self._work, daemon=True, name="separator")
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Puts a job at the end of the queue.

        Raises:
            ConfigError: if too many wait already.
        """
        with self._lock:
            self._unfinished = [other for other in self._unfinished if not other.is_finished]
            if sum(other.state is State.WAITING for other in self._unfinished) >= MAX_WAITING:
                raise ConfigError("Too many others are waiting already. Please try again in some minutes.")
            self._unfinished.append(job)
        self._queue.put(job)

    def ahead(self, job: Job) -> int:
        """How many jobs come before one that waits, the one that is worked on among them."""
        with self._lock:
            unfinished = [other for other in self._unfinished if not other.is_finished]
        return unfinished.index(job) if job in unfinished else 0

    def close(self) -> None:
        """Ends all jobs and the thread, which a process must not leave behind while it computes: it would crash."""
        with self._lock:
            for job in self._unfinished:
                job.stop()
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def model(self, options: Options) -> Separator:
        """The model of a job, which stays loaded. Raises what `Separator` raises."""
        model = self._models.pop(options.model, None) or Separator(options.model, self.device)
        while len(self._models) >= MAX_MODELS:
            del self._models[next(iter(self._models))]
        self._models[options.model] = model  # behind all others: it was used last
        model.shifts = options.shifts
        model.stems = options.stems
        if not model.net.can_stream:  # which knows no pieces
            model.segment_seconds, model.overlap = options.segment_seconds, options.overlap
        return model

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.is_unwanted:
                job.state = State.STOPPED
                continue
            job.state = State.RUNNING
            try:
                for number, recording in enumerate(job.recordings):
                    self._finish(job, self._separate(job, recording, number))
                job.state = State.DONE
            except _Stopped:
                job.state = State.STOPPED
            except Exception:  # the others go on
                LOG.exception("a job was left")
                job.state = State.DONE

    def _finish(self, job: Job, outcome: Outcome) -> None:
        job.phase = "drawing the pictures"
        try:
            self.after(job, outcome)
        except Exception as error:
            outcome = _failed(outcome.recording, error)
            try:
                self.after(job, outcome)
            except Exception:  # the page then says that it failed, without why
                LOG.exception("an outcome is not shown")
        job.outcomes.append(outcome)

    def _separate(self, job: Job, recording: Recording, number: int) -> Outcome:
        job.phase, job.done_seconds, job.total_seconds = "reading it", 0.0, 0.0

        def callback(_: float, done: float, total: float) -> None:
            job.done_seconds = done
            if job.total_seconds:
                job.total_seconds = total
            if job.is_unwanted:
                raise _Stopped
            if total > self.longest_seconds:
                raise ConfigError(too_long(total, self.longest_seconds))
            # Of a recording that does not say how long it is, nobody knows which piece is the last.
            job.phase = "writing the stems" if job.total_seconds and done >= total else ""

        try:
            with readers.open_recording(recording.path) as opened:
                seconds = (opened.promised or 0) / opened.sample_rate
            if seconds > self.longest_seconds:
                raise ConfigError(too_long(seconds, self.longest_seconds))
            job.phase = "loading the model"
            model = self.model(job.options)
            job.phase, job.total_seconds, job.started = "", seconds, time.monotonic()
            if job.is_unwanted:
                raise _Stopped
            model.callback = callback
            result = model.separate_file(
                recording.path,
                job.folder / f"stems{number}",
                "{stem}.{ext}",
                job.options.extension,
                job.options.subtype,
            )
        except _Stopped:
            raise
        except SeparatorError as error:
            return Outcome(recording, error=_for_visitors(error, recording, job))
        except Exception as error:  # one visitor's trouble is not that of all others
            return _failed(recording, error)
        return Outcome(recording, result)


def too_long(seconds: float, longest: float) -> str:
    """The sentence for a recording that is too long."""
    return (
        f"It is {_length(seconds)} long; this page takes up to {_length(longest)}. Cut it, or use the separate "
        "command, which takes any length."
    )


def _length(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _for_visitors(error: SeparatorError, recording: Recording, job: Job) -> str:
    """An error without what is only of this machine."""
    text = str(error).removeprefix(f"{recording.path}: ").replace(str(recording.path), recording.name)
    if isinstance(error, ConfigError) and text.startswith(str(job.folder)):  # such as a format that holds less
        text = text.partition(": ")[2]
    if str(job.folder) in text:  # where the stems are written
        LOG.error(text)
        return NO_ROOM
    model = Path(job.options.model).name
    text = text.replace(job.options.model, model)
    return text if text.startswith(model) else text[:1].upper() + text[1:]


def _failed(recording: Recording, error: Exception) -> Outcome:
    """The outcome that an error leaves which no input should have led to."""
    LOG.error("a recording was left", exc_info=error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return Outcome(recording, error=NO_ROOM)
    text = f"Something went wrong that should not have ({type(error).__name__}). Other recordings may work."
    return Outcome(recording, error=text)
