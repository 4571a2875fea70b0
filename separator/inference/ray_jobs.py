"""Bulk separation with Ray Data (`separate --engine ray`): many recordings, many workers, one machine or a cluster.

Each worker is a process with its own copy of the model. Ray replaces a worker that is killed. A ledger stores which
recordings are done, so that none is done twice. It also counts the attempts, so that a recording that kills its workers
is not retried forever. A recording with all its stems counts as done, so the same command can be run again to
continue.
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

# Maximum number of tasks that Ray tracks. With more recordings, a task takes several of them.
MAX_TASKS = 10_000
# A recording fails after it has killed this many workers.
ATTEMPTS = 3
FAILURES = "failures.csv"


@dataclass(frozen=True)
class Job:
    """The settings of a run: arguments of `Separator` and of `separate_file`.

    Attributes:
        model: name or path of the model.
        sources: names of the model's stems.
        separator: other arguments of `Separator`.
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
    """Find recordings like `find_recordings.find`. Names may also be URLs of files or folders that fsspec can read."""
    urls = [name for name in names if remote.is_url(name)]
    local = [name for name in names if not remote.is_url(name)]
    items = find_recordings.find(local, lists, None if remote.is_url(out) else Path(out)) if local or lists else []
    for url in urls:
        items += remote.find(url)
    return find_recordings.make_tracks_unique(items)


def sources_of(model: str, settings: Mapping[str, Any] | None = None) -> tuple[str, ...]:
    """Return the names of a model's stems. Raise `ConfigError` if the model does not take the `Separator` arguments."""
    from separator.inference.checks import check_chunking, chosen_stems
    from separator.inference.network_runner import check_shifts

    net, settings = zoo.load(model), settings or {}
    check_chunking(net, settings.get("segment_seconds"), settings.get("overlap"))
    check_shifts(net, settings.get("shifts", 1))
    names = settings.get("stems")
    if names is None:
        return net.sources
    return tuple(net.sources[number] for number in chosen_stems(names, net.sources, model))


def run(items: Sequence[Item], job: Job, workers: int | None = None, cores: int = 1) -> Iterator[dict]:
    """Separate recordings. Yield one report for each recording when it is ready, in any order.

    Args:
        items: recordings.
        job: settings of the run.
        workers: number of workers. Default: one per GPU of the cluster, or one per `cores` cores if it has no GPU.
        cores: number of cores per worker.

    Raises:
        ConfigError: if Ray is missing, or no machine has enough cores.
        FleetError: if the workers fail.
    """
    exists = (lambda _: False) if job.overwrite else remote.existing(job.out)
    pending = []
    for item in items:
        names = _stem_names(job, item)
        kept = [name for name, path in names.items() if exists(path)]
        if len(kept) == len(names):
            yield {"path": str(item.path), "status": "skipped", "stems": names}
        else:
            pending.append({"path": str(item.path), "track": item.track, "kept": json.dumps(kept)})
    if not pending:
        return
    ray = _ray()
    with _cluster(ray) as resources:
        gpus = int(resources.get("GPU", 0))
        max_cores = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        if cores > max_cores:
            raise ConfigError(f"--cores {cores}: no machine of the cluster has more than {max_cores}; use fewer")
        count = workers or gpus or max(1, int(resources.get("CPU", 1)) // cores)
        ledger = ray.remote(num_cpus=0)(Ledger).remote()
        rows = ray.data.from_items(pending, override_num_blocks=min(len(pending), MAX_TASKS))
        reports = rows.map_batches(
            Worker,
            fn_constructor_kwargs={"job": job, "cores": cores, "ledger": ledger},
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(count, len(pending))),
            num_cpus=cores,
            num_gpus=1 if gpus else 0,
        )
        try:
            for row in reports.iter_rows():
                yield json.loads(row["report"])
        except ray.exceptions.RayError as error:
            raise FleetError(f"the workers failed: {str(error).strip().splitlines()[-1]}") from error


class Ledger:
    """Reports of finished recordings and numbers of attempts. All workers share one ledger, in its own process."""

    def __init__(self) -> None:
        # The key has the track too: a list may name a recording under several tracks.
        self._reports: dict[tuple[str, str], str] = {}
        self._attempts: Counter[tuple[str, str]] = Counter()

    def begin(self, path: str, track: str = "") -> str | None:
        """Count an attempt. Return the report if the recording is done or has failed too often, otherwise None."""
        self._attempts[path, track] += 1
        if (path, track) not in self._reports and self._attempts[path, track] > ATTEMPTS:
            error = f"{path}: {ATTEMPTS} workers were killed while they separated it; check if there is enough memory"
            self.finish(path, json.dumps({"path": path, "status": "failed", "error": error}), track)
        return self._reports.get((path, track))

    def finish(self, path: str, report: str, track: str = "") -> None:
        """Store the report of a recording."""
        self._reports[path, track] = report


class Worker:
    """Ray worker that separates recordings in its own process, with its own copy of the model."""

    def __init__(self, job: Job, cores: int, ledger: Any) -> None:
        import ray
        import torch

        from separator.inference.separation import Separator

        torch.set_num_threads(cores)
        self.job, self.separator = job, Separator(job.model, **job.separator)
        self._wait, self._ledger = ray.get, ledger

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Separate a batch.

        Args:
            batch: columns `path`, `track` and `kept` (names of the stems that existed before, as JSON).

        Returns:
            Column `report`, as JSON.
        """
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
        except Exception as error:  # a bug or a driver's failure in one recording must not end the run
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
                atomic.remove_unfinished(stem)  # left by a worker that was killed while writing
            # A stem that a killed worker did finish is complete and has the same content, so it is kept.
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
                    # A stem uploaded since the start may be incomplete, if its worker was killed. Upload it again.
                    if name not in kept:
                        remote.upload(stem, report["stems"][name])
                report |= {"kept": list(kept)} if kept else {}
            return report


def write_failures(reports: Sequence[dict], out: str) -> str | None:
    """Write one row for each failed or partial recording to a CSV file in `out`.

    The file replaces that of an earlier run. If nothing failed, the earlier file is removed.

    Returns:
        Path or URL of the file. None if there was nothing to write.

    Raises:
        AudioError: if the file cannot be written.
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
    """Connect to the cluster of `RAY_ADDRESS`, or start a local one and stop it at the end. Yield its resources."""
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
