"""State of the server that all visitors share."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from separator.errors import ConfigError
from separator.web import results
from separator.web.jobs import Job, Outcome, Worker
from separator.web.models import Choice
from separator.web.store import Store


@dataclass
class Site:
    """State that all visitors share.

    Attributes:
        store: folders of visitors.
        worker: runs the jobs.
        models: models to choose from. The first one is the default.
        entries: name of a visitor's folder -> entries of the recordings that were processed so far. Visitors, the
            worker and the server's threads change it under `lock`.
    """

    store: Store
    worker: Worker
    models: Sequence[Choice]
    entries: dict[str, list[results.PageEntry]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def open(
        cls, store: Store, device: str = "auto", max_seconds: float = 10_800.0, models: Sequence[Choice] = ()
    ) -> Site:
        """Return a new site without visitors."""
        site = cls(store, Worker(device, max_seconds), models)
        site.worker.on_outcome = site._add_entry
        return site

    def choice(self, name: str) -> Choice:
        """Return the model with this displayed name. Raise `ConfigError` if there is no such model."""
        for choice in self.models:
            if choice.name == name:
                return choice
        raise ConfigError("Unknown model. Choose one from the list.")

    def submit(self, job: Job) -> None:
        """Submit a job to the queue. Raise `ConfigError` if too many jobs are waiting."""
        self.register(job.folder)
        self.worker.submit(job)

    def register(self, folder: Path) -> list[results.PageEntry]:
        """Return the list for the entries of a folder. Forget the entries of folders that no longer exist."""
        with self.lock:
            for token in list(self.entries):
                if self.store.find(token) is None:
                    self.entries.pop(token, None)
            return self.entries.setdefault(folder.name, [])

    def discard(self, job: Job) -> None:
        """Stop a job and remove its files and entries."""
        job.stop()
        self.store.discard(job.folder)
        with self.lock:
            self.entries.pop(job.folder.name, None)

    def entries_of(self, token: str) -> list[results.PageEntry]:
        """Return a copy of the entries so far for the folder with this name."""
        with self.lock:
            return list(self.entries.get(token, ()))

    def _add_entry(self, job: Job, outcome: Outcome) -> None:
        entries = self.entries.get(job.folder.name)
        if entries is not None:  # the visitor is still there
            # This is slow, so it runs without the lock. Only the worker adds entries of a job.
            entry = results.make_entry(outcome, job.folder, len(entries))
            with self.lock:
                entries.append(entry)
            self.store.touch(job.folder)
