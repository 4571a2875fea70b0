"""`separate --engine ray`: many recordings on many workers, of one machine or a cluster, by Ray Data.

Each worker is a process with a model of its own; Ray starts another in the place of one that is killed. A ledger knows
what is done, so that nothing is done twice, and how often a recording was tried, so that one that kills its workers
does not do so for ever. A recording whose stems are all there is finished: the same command again does what is left.
"""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import tempfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from separator import zoo
from separator.errors import AudioError, ConfigError, FleetError, SeparatorError, reason
from separator.io import atomic, find_recordings, remote, stem_paths
from separator.io.find_recordings import Item

# Tasks that Ray keeps account of, at most; of more recordings a task takes several.
MAX_TASKS = 10_000
# So many workers may be killed over one recording.
ATTEMPTS = 3
FAILURES = "failures.csv"


@dataclass(frozen=True)
class Job:
    """What is done with every recording: arguments of `Separator` and of `separate_file`.

    Attributes:
        sources: names of the model's stems.
        separator: further arguments of `Separator`.
    """

    model: str
    sources: tuple[str, ...]
    separator: dict[str, Any]
    out: str
    filename: str
    extension: str
    subtype: str | None
    overwrite: bool
    bitrate: int | None = None


def find(names: Sequence[str], lists: Sequence[Path], out: str) -> list[Item]:
    """As `find_recordings.find`; names may also be URLs that fsspec knows, of files or folders."""
    urls = [name for name in names if remote.is_url(name)]
    local = [name for name in names if not remote.is_url(name)]
    items = find_recordings.find(local, lists, None if remote.is_url(out) else Path(out)) if local or lists else []
    for url in urls:
        items += remote.find(url)
    return find_recordings.told_apart(items)


def sources_of(model: str, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Names of a model's stems. Raises `ConfigError` for arguments of `Separator` that the model does not take."""
    from separator.inference.checks import check_pieces, chosen_stems
    from separator.inference.network_runner import check_shifts

    net, settings = zoo.load(model), settings or {}
    check_pieces(net, settings.get("segment_seconds"), settings.get("overlap"))
    check_shifts(net, settings.get("shifts", 1))
    names = settings.get("stems")
    return net.sources if names is None else tuple(net.sources[one] for one in chosen_stems(names, net.sources, model))


def run(items: Sequence[Item], job: Job, workers: int | None = None, cores: int = 1) -> Iterator[dict]:
    """Separates recordings; gives the report of each as it is ready, in any order, each once.

    Args:
        items: recordings.
        job: what to do with them.
        workers: how many; as many as the cluster has GPUs, or without any, groups of cores.
        cores: of each worker.

    Raises:
        ConfigError: if Ray is missing.
        FleetError: if the workers cannot go on.
    """
    there = (lambda _: False) if job.overwrite else remote.existing(job.out)
    left = []
    for item in items:
        names = _stem_names(job, item)
        kept = [name for name, path in names.items() if there(path)]
        if len(kept) == len(names):
            yield {"path": str(item.path), "status": "skipped", "stems": names}
        else:
            left.append({"path": str(item.path), "track": item.track, "kept": json.dumps(kept)})
    if not left:
        return
    ray = _ray()
    with _cluster(ray) as resources:
        gpus = int(resources.get("GPU", 0))
        most = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        if cores > most:
            raise ConfigError(f"--cores {cores}: no machine of the cluster has more than {most}; give fewer")
        count = workers or gpus or max(1, int(resources.get("CPU", 1)) // cores)
        ledger = ray.remote(num_cpus=0)(Ledger).remote()
        rows = ray.data.from_items(left, override_num_blocks=min(len(left), MAX_TASKS))
        reports = rows.map_batches(
            Worker,
            fn_constructor_kwargs={"job": job, "cores": cores, "ledger": ledger},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(left))),
            num_cpus=cores,
            num_gpus=1 if gpus else 0,
        )
        try:
            for row in reports.iter_rows():
                yield json.loads(row["report"])
        except ray.exceptions.RayError as error:
            raise FleetError(f"the workers cannot go on: {str(error).strip().splitlines()[-1]}") from error


class Ledger:
    """What is done, and how often what is not was tried; one for all workers, in a process of its own."""

    def __init__(self) -> None:
        # By path and track: a list may name a recording under several.
        self._reports: dict[tuple[str, str], str] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()

    def begin(self, path: str, track: str = "") -> str | None:
        """The report of a recording that is done, or was tried too often; None if it is to be done."""
        self._attempts[path, track] += 1
        if (path, track) not in self._reports and self._attempts[path, track] > ATTEMPTS:
            error = f"{path}: {ATTEMPTS} workers were killed while they separated it; is there too little memory?"
            self.finish(path, json.dumps({"path": path, "status": "failed", "error": error}), track)
        return self._reports.get((path, track))

    def finish(self, path: str, report: str, track: str = "") -> None:
        """Keeps a report."""
        self._reports[path, track] = report


class Worker:
    """Separates recordings in a process of its own."""

    def __init__(self, job: Job, cores: int, ledger: Any) -> None:
        import ray
        import torch

        from separator.inference.separation import Separator

        torch.set_num_threads(cores)
        self.job, self.separator = job, Separator(job.model, **job.separator)
        self._wait, self._ledger = ray.get, ledger

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """A batch of `path`, `track` and `kept`, names of stems that were there (JSON) -> `report`, as JSON."""
        rows = zip(*(map(str, batch[name]) for name in ("path", "track", "kept")), strict=True)
        return {"report": [self._once(path, track, json.loads(kept)) for path, track, kept in rows]}

    def _once(self, path: str, track: str, kept: Collection[str]) -> str:
        report = self._wait(self._ledger.begin.remote(path, track))
        if report is None:
            report = json.dumps(self._separate(path, track, kept))
            self._wait(self._ledger.finish.remote(path, report, track))
        return report

    def _separate(self, path: str, track: str, kept: Collection[str]) -> dict:
        try:
            return self._report(path, track, kept)
        except SeparatorError as error:
            return {"path": path, "status": "failed", "error": str(error)}
        except Exception as error:  # one recording's bug or driver's failure must not end the others
            return {"path": path, "status": "failed", "error": f"{path}: {type(error).__name__}: {error}"}

    def _report(self, path: str, track: str, kept: Collection[str]) -> dict:
        job = self.job
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / Path(path).name if remote.is_url(path) else Path(path)
            if remote.is_url(path):
                remote.download(path, local)
            out = folder if remote.is_url(job.out) else job.out
            names = stem_paths.fill_in(self.separator.sources, out, job.filename, track, job.extension)
            for stem in names.values():
                atomic.remove_unfinished(stem)  # of a worker that was killed at it
            # What a worker that was killed has written is whole, and the same.
            result = self.separator.separate_file(
                local,
                out,
                job.filename,
                job.extension,
                job.subtype,
                overwrite=job.overwrite,
                track=track,
                keep_existing=not job.overwrite,
                bitrate=job.bitrate,
            )
            report = result.report() | {"path": path}
            if remote.is_url(job.out):
                report["stems"] = {name: _joined(job.out, stem, out) for name, stem in result.paths.items()}
                for name, stem in result.paths.items():
                    if name not in kept:  # what has come since may be half of what a worker sent that was killed
                        remote.upload(stem, report["stems"][name])
                report |= {"kept": list(kept)} if kept else {}
            return report


def write_failures(reports: Sequence[dict], out: str) -> str | None:
    """Writes what failed or is partial, a row for each, into `out`; returns where, None if nothing did.

    What an earlier run wrote there goes.
    """
    failed = [report for report in reports if report["status"] in ("failed", "partial")]
    path = f"{out.rstrip('/')}/{FAILURES}"

    def write(to: Path) -> None:
        with to.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            table = csv.DictWriter(file, ["path", "status", "error"], extrasaction="ignore")
            table.writeheader()
            table.writerows({"error": report.get("damage"), **report} for report in failed)

    try:
        if not failed:
            remote.remove(path)
        elif not remote.is_url(out):
            atomic.write_together({Path(path): write})
        else:
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / FAILURES)
                remote.upload(Path(folder) / FAILURES, path)
    except OSError as error:
        raise AudioError(f"{path}: cannot be written ({reason(error)})") from error
    return path if failed else None


def _stem_names(job: Job, item: Item) -> dict[str, str]:
    base = "." if remote.is_url(job.out) else job.out
    names = stem_paths.fill_in(job.sources, base, job.filename, item.track, job.extension)
    return {name: _joined(job.out, path, base) if remote.is_url(job.out) else str(path) for name, path in names.items()}


def _joined(out: str, stem: Path, base: str) -> str:
    return f"{out.rstrip('/')}/{stem.relative_to(base).as_posix()}"


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ConfigError(
            f"--engine ray needs the package {error.name}; install it with: pip install 'separator[ray]'"
        ) from error
    return ray


@contextlib.contextmanager
def _cluster(ray: Any) -> Iterator[dict]:
    """The resources of the cluster of `RAY_ADDRESS`, or of one that is made here for as long as it is needed."""
    own = not ray.is_initialized()
    if own:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    try:
        yield ray.cluster_resources()
    finally:
        if own:
            ray.shutdown()
