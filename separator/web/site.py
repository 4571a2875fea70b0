"""What all visitors of the page share."""

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
    """What all visitors share.

    Attributes:
        models: that visitors choose from, the first one unless they do.
        shelves: by the name of a visitor's folder, what became of the recordings in it so far. Visitors, the worker
            and the server's threads change it, under `lock`.
    """

    store: Store
    worker: Worker
    models: Sequence[Choice]
    shelves: dict[str, list[results.Shelf]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def open(
        cls, store: Store, device: str = "auto", longest_seconds: float = 10_800.0, models: Sequence[Choice] = ()
    ) -> Site:
        """A site without visitors."""
        site = cls(store, Worker(device, longest_seconds), models)
        site.worker.after = site._shelve
        return site

    def choice(self, name: str) -> Choice:
        """The model that a visitor calls so. Raises `ConfigError` if there is none."""
        for choice in self.models:
            if choice.name == name:
                return choice
        raise ConfigError("There is no such model.")

    def submit(self, job: Job) -> None:
        """Puts a job into the queue. Raises `ConfigError` if too many wait."""
        self.begin(job.folder)
        self.worker.submit(job)

    def begin(self, folder: Path) -> list[results.Shelf]:
        """Room for what becomes of the recordings in a folder; forgets folders that are gone."""
        with self.lock:
            for token in list(self.shelves):
                if self.store.find(token) is None:
                    self.shelves.pop(token, None)
            return self.shelves.setdefault(folder.name, [])

    def discard(self, job: Job) -> None:
        """Ends a job and removes what is left of it."""
        job.stop()
        self.store.discard(job.folder)
        with self.lock:
            self.shelves.pop(job.folder.name, None)

    def shelved(self, token: str) -> list[results.Shelf]:
        """What became so far of the recordings in the folder of this name."""
        with self.lock:
            return list(self.shelves.get(token, ()))

    def _shelve(self, job: Job, outcome: Outcome) -> None:
        shelves = self.shelves.get(job.folder.name)
        if shelves is not None:  # its visitor has not gone
            shelf = results.shelve(outcome, job.folder, len(shelves))  # takes its time; only the worker adds to a job's
            with self.lock:
                shelves.append(shelf)
            self.store.touch(job.folder)
