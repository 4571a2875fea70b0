"""Separation jobs of visitors, run one after the other in a worker thread."""

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
# A job is cancelled if its page has not polled it for this long.
POLL_TIMEOUT_SECONDS = 30.0
# Maximum number of waiting jobs. Gradio updates at most 40 visitors at a time.
MAX_WAITING = 30
# Number of models that stay loaded.
MAX_MODELS = 2
# Time that `close` waits for the chunk in progress.
CLOSE_TIMEOUT_SECONDS = 10.0
NO_SPACE = f"{store.NO_SPACE} Please try a shorter recording."


class State(enum.Enum):
    """State of a job."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Recording:
    """An uploaded file and its displayed name."""

    path: Path
    name: str


@dataclass(frozen=True)
class Options:
    """Options that a visitor chose: arguments of `Separator` and of `separate_file`."""

    model: str
    segment_seconds: float
    overlap: float
    shifts: int = 1
    extension: str = "wav"
    subtype: str | None = None
    stems: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """The result for a recording, or an error message."""

    recording: Recording
    result: FileResult | None = None
    error: str = ""


@dataclass(eq=False)
class Job:
    """A visitor's recordings and their progress.

    Attributes:
        phase: current step of the current recording. Empty while it is separated.
        done_seconds: seconds of the current recording that are separated.
        total_seconds: length of the current recording. 0 if unknown.
        started: time at which the separation of the current recording began.
        outcomes: outcomes of the finished recordings.
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
    _polled: float = field(default_factory=time.monotonic)

    @property
    def is_finished(self) -> bool:
        """Whether the job is done or stopped."""
        return self.state in (State.DONE, State.STOPPED)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds left for the current recording, from the speed so far. None if not known yet."""
        if self.state is not State.RUNNING or self.done_seconds <= 0 or self.total_seconds <= 0:
            return None
        return (time.monotonic() - self.started) * (self.total_seconds / self.done_seconds - 1)

    def stop(self) -> None:
        """Stop the job as soon as possible. The recording in progress is discarded."""
        self._stop.set()
        if self.state is State.WAITING:
            self.state = State.STOPPED

    def keep_alive(self) -> None:
        """Record that the page has polled the job."""
        self._polled = time.monotonic()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was stopped, or its page no longer polls it."""
        return self._stop.is_set() or time.monotonic() - self._polled > POLL_TIMEOUT_SECONDS


class _Cancelled(Exception):  # noqa: N818 - not an error
    """The current job was cancelled."""


class Worker:
    """Run jobs in the order in which they were submitted.

    Args:
        device: see `Separator`.
        max_seconds: maximum length of a recording. Default: 10800.

    Attributes:
        on_outcome: called with the job and the outcome of each recording, in the worker thread.
    """

    def __init__(
        self,
        device: str = "auto",
        max_seconds: float = 10_800.0,
    ) -> None:
        self.device, self.max_seconds = device, max_seconds
        self.on_outcome: Callable[[Job, Outcome], Any] = lambda job, outcome: None
        self._queue: queue.Queue[Job | None] = queue.Queue()
        self._unfinished: list[Job] = []
        self._lock = threading.Lock()
        self._models: dict[str, Separator] = {}
        self._thread = threading.Thread(target=self._work, daemon=True, name="separator")
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Put a job at the end of the queue.

        Raises:
            ConfigError: if too many jobs are waiting.
        """
        with self._lock:
            self._unfinished = [other for other in self._unfinished if not other.is_finished]
            if sum(other.state is State.WAITING for other in self._unfinished) >= MAX_WAITING:
                raise ConfigError("The server is busy. Please try again in a few minutes.")
            self._unfinished.append(job)
        self._queue.put(job)

    def ahead(self, job: Job) -> int:
        """Return the number of jobs before a waiting job, including the running one."""
        with self._lock:
            unfinished = [other for other in self._unfinished if not other.is_finished]
        return unfinished.index(job) if job in unfinished else 0

    def close(self) -> None:
        """Stop all jobs and the thread. A process that ends while a thread still computes would crash."""
        with self._lock:
            for job in self._unfinished:
                job.stop()
        self._queue.put(None)
        self._thread.join(CLOSE_TIMEOUT_SECONDS)

    def model(self, options: Options) -> Separator:
        """Return the model of a job. It stays loaded. Raise the same errors as `Separator`."""
        model = self._models.pop(options.model, None) or Separator(options.model, self.device)
        while len(self._models) >= MAX_MODELS:
            del self._models[next(iter(self._models))]
        self._models[options.model] = model  # at the end, as the most recently used one
        model.shifts = options.shifts
        model.stems = options.stems
        if not model.net.can_stream:  # such a model works without chunks
            model.segment_seconds, model.overlap = options.segment_seconds, options.overlap
        return model

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.is_cancelled:
                job.state = State.STOPPED
                continue
            job.state = State.RUNNING
            try:
                for number, recording in enumerate(job.recordings):
                    self._finish(job, self._separate(job, recording, number))
                job.state = State.DONE
            except _Cancelled:
                job.state = State.STOPPED
            except Exception:  # the other jobs must go on
                LOG.exception("a job failed")
                job.state = State.DONE

    def _finish(self, job: Job, outcome: Outcome) -> None:
        job.phase = "drawing the pictures"
        try:
            self.on_outcome(job, outcome)
        except Exception as error:
            outcome = _failed(outcome.recording, error)
            try:
                self.on_outcome(job, outcome)
            except Exception:  # the page then shows the failure without a reason
                LOG.exception("an outcome cannot be shown")
        job.outcomes.append(outcome)

    def _separate(self, job: Job, recording: Recording, number: int) -> Outcome:
        job.phase, job.done_seconds, job.total_seconds = "reading the recording", 0.0, 0.0

        def callback(_: float, done: float, total: float) -> None:
            job.done_seconds = done
            if job.total_seconds:
                job.total_seconds = total
            if job.is_cancelled:
                raise _Cancelled
            if total > self.max_seconds:
                raise ConfigError(too_long(total, self.max_seconds))
            # If the length is unknown, the last chunk cannot be recognized.
            job.phase = "writing the stems" if job.total_seconds and done >= total else ""

        try:
            with readers.open_recording(recording.path) as opened:
                seconds = (opened.promised or 0) / opened.sample_rate
            if seconds > self.max_seconds:
                raise ConfigError(too_long(seconds, self.max_seconds))
            job.phase = "loading the model"
            model = self.model(job.options)
            job.phase, job.total_seconds, job.started = "", seconds, time.monotonic()
            if job.is_cancelled:
                raise _Cancelled
            model.callback = callback
            result = model.separate_file(
                recording.path,
                job.folder / f"stems{number}",
                "{stem}.{ext}",
                job.options.extension,
                job.options.subtype,
            )
        except _Cancelled:
            raise
        except SeparatorError as error:
            return Outcome(recording, error=_visitor_text(error, recording, job))
        except Exception as error:  # a failure of one recording must not affect the others
            return _failed(recording, error)
        return Outcome(recording, result)


def too_long(seconds: float, max_seconds: float) -> str:
    """Return the message for a recording that is too long."""
    return (
        f"The recording is {_length(seconds)} long. The limit of this page is {_length(max_seconds)}. Cut the "
        "recording, or use the separate command, which takes any length."
    )


def _length(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def _visitor_text(error: SeparatorError, recording: Recording, job: Job) -> str:
    """Return the text of an error without paths of this machine."""
    text = str(error).removeprefix(f"{recording.path}: ").replace(str(recording.path), recording.name)
    if isinstance(error, ConfigError) and text.startswith(str(job.folder)):  # such as too many channels for the format
        text = text.partition(": ")[2]
    if str(job.folder) in text:  # the stems cannot be written
        LOG.error(text)
        return NO_SPACE
    model = Path(job.options.model).name
    text = text.replace(job.options.model, model)
    return text if text.startswith(model) else text[:1].upper() + text[1:]


def _failed(recording: Recording, error: Exception) -> Outcome:
    """Return the outcome for an unexpected error."""
    LOG.error("a recording failed", exc_info=error)
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return Outcome(recording, error=NO_SPACE)
    text = f"Internal error ({type(error).__name__}). Other recordings may still work."
    return Outcome(recording, error=text)
