"""`--engine ray` with two workers, one of which is killed, gives the same stems as one process."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import separator
from separator import cli
from separator.errors import ConfigError
from separator.inference import ray_jobs
from separator.inference.ray_jobs import Ledger
from separator.io.find_recordings import Item

pytest.importorskip("ray")
pytest.importorskip("fsspec")
# Only one cluster at a time on a machine.
pytestmark = pytest.mark.xdist_group("ray")

COUNT = 6


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """A folder with recordings in two levels of folders, and a file that is not audio."""
    folder = tmp_path_factory.mktemp("calls")
    (folder / "deep").mkdir()
    for number in range(COUNT):
        samples = 0.1 * np.random.default_rng(number).standard_normal((8000 * 240, 1 + number % 2))
        soundfile.write(folder / ("deep" if number % 2 else "") / f"{number}.wav", samples, 8000)
    (folder / "bad.wav").write_text("this is not audio")
    return folder


def workers_of(process):
    """Process ids of the Ray workers of one command."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and b"ray::MapWorker" in (entry / "cmdline").read_bytes():
                session = os.getsid(int(entry.name))
                found += [int(entry.name)] if session == process.pid else []
        except OSError:
            continue
    return found


def test_a_killed_worker_neither_loses_nor_repeats_a_recording(calls, tiny_checkpoint, tmp_path):
    settings = ["-m", str(tiny_checkpoint), "--segment", "2", "--float32"]
    command = [sys.executable, "-m", "separator.cli", str(calls), "-o", str(tmp_path / "ray"), *settings, "--json"]
    command += ["--engine", "ray", "--workers", "2"]
    environment = os.environ | {"RAY_ADDRESS": "local", "OMP_NUM_THREADS": "1"}
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(command, stdout=-1, stderr=errors, env=environment, start_new_session=True)
        # A worker is separating when the hidden file of a stem exists.
        while not list((tmp_path / "ray").rglob(".*")) or not (victims := workers_of(process)):
            assert process.poll() is None, (tmp_path / "errors").read_text()
            time.sleep(0.02)
        os.kill(victims[0], signal.SIGKILL)
        out, _ = process.communicate(timeout=300)
    assert process.returncode == 1, (tmp_path / "errors").read_text()
    reports = json.loads(out)["files"]
    assert sorted(report["status"] for report in reports) == ["done"] * COUNT + ["failed"]
    assert len({report["path"] for report in reports}) == COUNT + 1
    assert cli.main([str(calls), "-o", str(tmp_path / "one"), *settings]) == 1
    stems = {path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.wav")}
    assert stems == {path.relative_to(tmp_path / "ray") for path in (tmp_path / "ray").rglob("*.wav")}
    assert len(stems) == 2 * COUNT and Path("deep/1/speaker2.wav") in stems
    for stem in stems:
        assert (tmp_path / "one" / stem).read_bytes() == (tmp_path / "ray" / stem).read_bytes()
    with (tmp_path / "ray" / "failures.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == str(calls / "bad.wav") and "cannot be read as audio" in row["error"]


def job(tiny_checkpoint, out, **changes):
    settings = dict(filename="{track}/{stem}.{ext}", extension="wav", subtype=None, overwrite=False) | changes
    return ray_jobs.Job(
        str(tiny_checkpoint), ray_jobs.sources_of(str(tiny_checkpoint)), {"device": "cpu"}, str(out), **settings
    )


class NoLedger:
    """Stands for the ledger, which runs in another process."""

    class Method:
        def __init__(self, function):
            self.remote = function

    def __init__(self):
        ledger = Ledger()
        self.begin, self.finish = self.Method(ledger.begin), self.Method(ledger.finish)


def batch(items, kept=()):
    return {
        "path": [str(item.path) for item in items],
        "track": [item.track for item in items],
        "kept": [json.dumps(list(kept))] * len(items),
    }


def worker(settings):
    made = ray_jobs.Worker.__new__(ray_jobs.Worker)
    made.job, made.separator = settings, separator.Separator(settings.model, **settings.separator)
    made._wait, made._ledger = lambda value: value, NoLedger()
    return made


def test_finished_recordings_are_skipped(tiny_checkpoint, tmp_path):
    """Ray is not even started."""
    soundfile.write(tmp_path / "a.wav", np.zeros(800), 8000)
    settings = job(tiny_checkpoint, tmp_path / "stems")
    worker(settings)(batch([Item(tmp_path / "a.wav", "a")]))
    (report,) = ray_jobs.run([Item(tmp_path / "a.wav", "a")], settings)
    assert report["status"] == "skipped" and report["stems"]["speaker1"] == str(tmp_path / "stems/a/speaker1.wav")


def test_urls_in_and_out(tiny_checkpoint, tmp_path):
    import fsspec

    memory = fsspec.filesystem("memory")
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(8000), 8000)
    memory.put(str(tmp_path / "a.wav"), "/calls/deep/a.wav")
    memory.put(str(tmp_path / "a.wav"), "/calls/b.wav")
    memory.pipe("/calls/notes.txt", b"no audio")
    items = ray_jobs.find(["memory://calls"], [], "memory://stems")
    assert {item.track for item in items} == {"deep/a", "b"}
    settings = job(tiny_checkpoint, "memory://stems")
    reports = list(map(json.loads, worker(settings)(batch(items))["report"]))
    assert [report["status"] for report in reports] == ["done", "done"]
    local = separator.Separator(tiny_checkpoint).separate_file(tmp_path / "a.wav", tmp_path / "stems")
    assert memory.cat("/stems/deep/a/speaker2.wav") == local.paths["speaker2"].read_bytes()
    assert {report["status"] for report in ray_jobs.run(items, settings)} == {"skipped"}
    failed = [{"path": "x.wav", "status": "failed", "error": "x.wav: broken"}]
    assert ray_jobs.write_failures(failed, "memory://stems") == "memory://stems/failures.csv"
    failed += [{"path": "y.mp3", "status": "partial", "damage": "3 s of 4 s"}, {"path": "z.wav", "status": "done"}]
    ray_jobs.write_failures(failed, "memory://stems")
    rows = list(csv.DictReader(memory.cat("/stems/failures.csv").decode().splitlines()))
    assert [list(row.values()) for row in rows] == [
        ["x.wav", "failed", "x.wav: broken"], ["y.mp3", "partial", "3 s of 4 s"],
    ]  # fmt: skip
    assert ray_jobs.write_failures(failed[2:], "memory://stems") is None and not memory.exists("/stems/failures.csv")


def test_folders_of_a_file_url_are_created(tiny_checkpoint, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(8000), 8000)
    items = [Item(f"file://{tmp_path}/a.wav", "deep/a")]
    (report,) = map(json.loads, worker(job(tiny_checkpoint, f"file://{tmp_path}/stems"))(batch(items))["report"])
    assert report["status"] == "done" and (tmp_path / "stems/deep/a/speaker1.wav").exists()


def test_a_url_that_does_not_answer(tmp_path):
    with pytest.raises(ConfigError, match=r"ftp://localhost:1/x: cannot be opened \(Connection refused\)"):
        ray_jobs.find(["ftp://localhost:1/x"], [], str(tmp_path))


def test_more_cores_than_any_machine_has(calls, tiny_checkpoint, tmp_path):
    with pytest.raises(ConfigError, match=r"--cores 1000: no machine of the cluster has more than \d+"):
        list(ray_jobs.run([Item(calls / "0.wav", "0")], job(tiny_checkpoint, tmp_path), cores=1000))


def test_a_recording_that_kills_its_workers_fails():
    ledger = Ledger()
    assert [ledger.begin("a.wav") for _ in range(ray_jobs.ATTEMPTS)] == [None] * ray_jobs.ATTEMPTS
    report = json.loads(ledger.begin("a.wav"))
    assert report["status"] == "failed" and "3 workers were killed" in report["error"]


def test_a_finished_recording_is_not_repeated():
    ledger = Ledger()
    assert ledger.begin("a.wav") is None
    ledger.finish("a.wav", "report")
    assert ledger.begin("a.wav") == "report"


def test_temporary_files_of_a_killed_worker_are_removed(tiny_checkpoint, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(800), 8000)
    folder = tmp_path / "stems" / "a"
    folder.mkdir(parents=True)
    (folder / ".speaker1.abc.wav").write_text("half")
    out = worker(job(tiny_checkpoint, tmp_path / "stems"))(batch([Item(tmp_path / "a.wav", "a")]))
    assert json.loads(out["report"][0])["status"] == "done"
    assert sorted(path.name for path in folder.iterdir()) == ["speaker1.wav", "speaker2.wav"]


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_existing_stems_are_kept_unless_forced(tiny_checkpoint, tmp_path, scheme, overwrite):
    """A stem from before the run stays. A stem sent by a worker that was killed is written again."""
    soundfile.write(tmp_path / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(800), 8000)
    (tmp_path / "stems/a").mkdir(parents=True)
    (tmp_path / "stems/a/speaker1.wav").write_text("mine")
    settings = job(tiny_checkpoint, f"{scheme}{tmp_path}/stems", overwrite=overwrite)
    items = [Item(str(tmp_path / "a.wav"), "a")]
    (report,) = map(json.loads, worker(settings)(batch(items, kept=[] if overwrite else ["speaker1"]))["report"])
    assert report["status"] == "done" and report.get("kept", []) == ([] if overwrite else ["speaker1"])
    assert ((tmp_path / "stems/a/speaker1.wav").read_bytes() == b"mine") is not overwrite
    assert soundfile.info(tmp_path / "stems/a/speaker2.wav").frames == 800


def test_workers_get_the_names_of_existing_stems(tiny_checkpoint, tmp_path, monkeypatch):
    import ray.data

    (tmp_path / "stems/a").mkdir(parents=True)
    (tmp_path / "stems/a/speaker1.wav").write_text("mine")
    seen = []

    def from_items(rows, **_):
        seen.extend(rows)
        raise KeyboardInterrupt

    monkeypatch.setattr(ray.data, "from_items", from_items)
    monkeypatch.setattr(ray_jobs, "_cluster", no_cluster)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": {"CPU": 1}}])
    monkeypatch.setattr(ray, "remote", lambda **_: lambda _: NoLedgerMaker)
    for overwrite in (False, True):
        with pytest.raises(KeyboardInterrupt):
            list(ray_jobs.run([Item("a.wav", "a")], job(tiny_checkpoint, tmp_path / "stems", overwrite=overwrite)))
    assert [json.loads(row["kept"]) for row in seen] == [["speaker1"], []]


class NoLedgerMaker:
    remote = staticmethod(lambda: None)


@contextlib.contextmanager
def no_cluster(ray):
    yield {"CPU": 1}


def test_one_recording_under_two_tracks_is_separated_twice(tiny_checkpoint, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(800), 8000)
    items = [Item(tmp_path / "a.wav", track) for track in "xy"]
    reports = worker(job(tiny_checkpoint, tmp_path / "stems"))(batch(items))["report"]
    assert [json.loads(report)["stems"]["speaker1"] for report in reports] == [
        str(tmp_path / f"stems/{track}/speaker1.wav") for track in "xy"
    ]


def test_invalid_options_for_a_causal_model_are_rejected_before_ray_starts(causal_checkpoint):
    for settings in ({"segment_seconds": 2.0}, {"overlap": 0.5}, {"shifts": 2}):
        with pytest.raises(ConfigError, match="a model that can stream"):
            ray_jobs.sources_of(str(causal_checkpoint), settings)


def test_without_ray_the_error_says_what_to_install(tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"--engine ray needs the package ray; .*separator\[ray\]"):
        list(ray_jobs.run([Item(tmp_path / "a.wav", "a")], job(tiny_checkpoint, tmp_path)))


@pytest.mark.parametrize(
    "options", [["--workers", "2"], ["--engine", "ray", "--workers", "0"], ["--engine", "ray", "--skip-existing"]]
)
def test_options_that_conflict(options):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["a.wav", *options])
    assert stopped.value.code == 2
