"""The code behind the page. test_web_page drives the page itself."""

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separator.errors import ConfigError
from separator.io import readers

pytest.importorskip("fastapi", reason="the extra web is not installed")
from fastapi import WebSocketDisconnect
from fastapi.testclient import TestClient

from separator.web import jobs, live_socket, models, results, server, site, store

layout = pytest.importorskip("separator.web.layout")


@pytest.fixture
def storage():
    folders = store.Store(age_seconds=3600)
    yield folders
    folders.close()


@pytest.fixture
def upload(storage):
    samples = 0.1 * np.random.default_rng(0).standard_normal((16000, 2))
    soundfile.write(storage.uploads / "call.wav", samples, 8000)
    return storage.uploads / "call.wav"


def options(model, **changes):
    return jobs.Options(**{"model": str(model), "segment_seconds": 1.0, "overlap": 0.25} | changes)


def is_empty(storage):
    return [path.name for path in storage.root.iterdir()] == ["uploads"]


def wait_until(condition, seconds=60):
    for _ in range(seconds * 100):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("the condition did not become true")


class TestStore:
    def test_a_visitors_file_name_is_not_used_as_a_path(self, storage, tmp_path):
        hostile = storage.uploads / "..;rm -rf $HOME%2f\N{SNOWMAN}.wav.sh"
        hostile.write_bytes(b"x")
        folder = storage.new()
        kept = storage.keep(hostile, folder, 0)
        assert kept == folder / "recording0" and kept.read_bytes() == b"x"
        loud = storage.uploads / "A.WAV"
        loud.write_bytes(b"y")
        assert storage.keep(loud, folder, 1) == folder / "recording1.wav"

    def test_only_uploads_are_accepted(self, storage, tmp_path):
        (tmp_path / "mine.wav").write_bytes(b"x")
        (storage.uploads / "link.wav").symlink_to(tmp_path / "mine.wav")
        folder = storage.new()
        for path in (tmp_path / "mine.wav", storage.uploads / "link.wav", "http://localhost/a.wav", "/dev/zero"):
            with pytest.raises(ConfigError, match="Only uploaded files"):
                storage.keep(path, folder, 0)
        with pytest.raises(ConfigError, match="deleted after an hour"):
            storage.keep(storage.uploads / "gone.wav", folder, 0)
        assert not list(folder.iterdir())

    @pytest.mark.parametrize("token", ["..", ".", "", "a/../..", "../separator-web", "/etc"])
    def test_a_token_cannot_lead_out_of_the_store(self, storage, token):
        assert storage.find(token) is None

    def test_folders_have_unguessable_names(self, storage):
        names = {storage.new().name for _ in range(20)}
        assert len(names) == 20 and min(map(len, names)) >= 20
        assert all(storage.find(name) for name in names)

    def test_old_files_are_deleted(self, storage):
        old, new = storage.new(), storage.new()
        (old / "stem.wav").write_bytes(b"x")
        os.utime(old, (time.time() - 3700,) * 2)
        storage.sweep()
        assert not old.exists() and new.exists()
        # Each upload has its own age. The age of the common folder does not matter.
        (storage.uploads / "one").mkdir()
        for name, age in (("one/old.wav", 3700), ("new.wav", 0), ("one", 3700), ("", 3700)):
            path = storage.uploads / name
            path.touch()
            os.utime(path, (time.time() - age,) * 2)
        storage.sweep()
        assert [path.name for path in storage.uploads.rglob("*")] == ["one", "new.wav"]
        os.utime(storage.uploads / "one", (time.time() - 3700,) * 2)
        storage.sweep()
        assert [path.name for path in storage.uploads.rglob("*")] == ["new.wav"]
        storage.close()
        assert not storage.root.exists()


class TestWorker:
    def job(self, storage, upload, tiny_checkpoint, **changes):
        folder = storage.new()
        recordings = [jobs.Recording(storage.keep(upload, folder, 0), upload.name)]
        return jobs.Job(recordings, options(tiny_checkpoint, **changes), folder)

    def test_stems_equal_those_of_the_command(self, storage, upload, tiny_checkpoint, tmp_path):
        from separator import cli

        job = self.job(storage, upload, tiny_checkpoint)
        jobs.Worker("cpu").submit(job)
        wait_until(lambda: job.is_finished)
        assert job.state is jobs.State.DONE and job.outcomes[0].error == ""
        arguments = ["-m", str(tiny_checkpoint), "--segment", "1", "-o", str(tmp_path / "cli"), "-d", "cpu"]
        assert cli.main([str(upload), *arguments]) == 0
        for name, path in job.outcomes[0].result.paths.items():
            assert path.read_bytes() == (tmp_path / "cli" / "call" / f"{name}.wav").read_bytes()

    def test_jobs_wait_in_order_and_know_their_place(self, storage, upload, tiny_checkpoint):
        worker = jobs.Worker("cpu")
        released = []
        worker.on_outcome = lambda job, outcome: wait_until(lambda: released)
        queue = [self.job(storage, upload, tiny_checkpoint) for _ in range(3)]
        worker.submit(queue[0])
        wait_until(lambda: queue[0].state is jobs.State.RUNNING)
        for job in queue[1:]:
            worker.submit(job)
        assert [worker.ahead(job) for job in queue] == [0, 1, 2]
        queue[1].stop()
        assert queue[1].state is jobs.State.STOPPED and worker.ahead(queue[2]) == 1
        released.append(True)
        wait_until(lambda: queue[2].is_finished)
        assert [job.state for job in queue] == [jobs.State.DONE, jobs.State.STOPPED, jobs.State.DONE]

    def test_a_stopped_job_leaves_no_stems(self, storage, upload, tiny_checkpoint, monkeypatch):
        job = self.job(storage, upload, tiny_checkpoint)
        worker = jobs.Worker("cpu")
        worker.model(job.options)  # load the model first
        monkeypatch.setattr(jobs.Job, "is_cancelled", property(lambda job: job.done_seconds > 0))
        worker.submit(job)
        wait_until(lambda: job.is_finished)
        assert job.state is jobs.State.STOPPED and not job.outcomes
        assert [path.name for path in job.folder.rglob("*") if path.is_file()] == ["recording0.wav"]

    def test_close_waits_for_the_worker_thread(self, storage, upload, tiny_checkpoint):
        worker = jobs.Worker("cpu")
        at_work, released = [], []
        worker.on_outcome = lambda job, outcome: at_work.append(job) or wait_until(lambda: released)
        queue = [self.job(storage, upload, tiny_checkpoint) for _ in range(2)]
        for job in queue:
            worker.submit(job)
        wait_until(lambda: at_work)
        threading.Timer(0.3, released.append, [True]).start()
        worker.close()
        assert at_work == queue[:1] and queue[1].state is jobs.State.STOPPED
        assert queue[0].is_finished and released

    def test_the_job_of_a_visitor_who_left_is_cancelled(self, storage, upload, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(jobs, "POLL_TIMEOUT_SECONDS", -1.0)
        job = self.job(storage, upload, tiny_checkpoint)
        jobs.Worker("cpu").submit(job)
        wait_until(lambda: job.is_finished)
        assert job.state is jobs.State.STOPPED

    def test_errors_are_reported_and_the_worker_continues(self, storage, upload, tiny_checkpoint, tmp_path):
        worker = jobs.Worker("cpu", max_seconds=1.0)
        text = storage.uploads / "notes.wav"
        text.write_text("not audio")
        bad, long = self.job(storage, text, tiny_checkpoint), self.job(storage, upload, tiny_checkpoint)
        for job in (bad, long):
            worker.submit(job)
        wait_until(lambda: long.is_finished)
        worker.max_seconds = 100
        unknown = self.job(storage, upload, tmp_path / "gone.safetensors")
        full = self.job(storage, upload, tiny_checkpoint)
        (full.folder / "stems0").write_text("a file where a folder is needed")
        for job in (unknown, full):
            worker.submit(job)
        wait_until(lambda: full.is_finished)
        errors = [job.outcomes[0].error for job in (bad, long, unknown, full)]
        assert errors[0].startswith("Cannot be read as audio") and "The limit of this page is" in errors[1]
        assert "gone.safetensors: no such file" in errors[2] and errors[3] == jobs.NO_SPACE
        assert not any(str(folder) in error for error in errors for folder in (storage.root, tmp_path))
        again = self.job(storage, upload, tiny_checkpoint)
        worker.submit(again)
        wait_until(lambda: again.is_finished)
        assert again.outcomes[0].result is not None

    @pytest.mark.parametrize(
        ("error", "text"), [(ZeroDivisionError(), "ZeroDivisionError"), (OSError(errno.ENOSPC, "full"), "disk space")]
    )
    def test_an_internal_error_is_reported_and_other_recordings_are_separated(
        self, storage, upload, tiny_checkpoint, monkeypatch, error, text
    ):
        shared = site.Site.open(storage, "cpu")
        job = self.job(storage, upload, tiny_checkpoint)
        job.recordings = [job.recordings[0], jobs.Recording(job.recordings[0].path, "second.wav")]
        make_entry = results.make_entry

        def fail_once(outcome, folder, number):
            if outcome.result and number == 0:
                raise error
            return make_entry(outcome, folder, number)

        monkeypatch.setattr(results, "make_entry", fail_once)
        shared.submit(job)
        wait_until(lambda: job.is_finished)
        assert text in job.outcomes[0].error and job.outcomes[1].result and job.state is jobs.State.DONE
        first, second = shared.entries[job.folder.name]
        assert text in first.page and "Traceback" not in first.page and "speaker1" in second.page

    def test_progress_for_a_recording_of_unknown_length(self, storage, upload, tiny_checkpoint, monkeypatch):
        seen, worker = [], jobs.Worker("cpu")
        job = self.job(storage, upload, tiny_checkpoint)
        open_recording = readers.open_recording

        def without_length(path, *chosen):
            recording = open_recording(path, *chosen)
            recording.promised = None
            return recording

        monkeypatch.setattr(readers, "open_recording", without_length)
        shared = site.Site(storage, worker, ())
        is_cancelled = jobs.Job.is_cancelled.fget
        monkeypatch.setattr(
            jobs.Job,
            "is_cancelled",
            property(lambda job: seen.append(layout.progress(shared, job)) or is_cancelled(job)),
        )
        worker.submit(job)
        wait_until(lambda: job.is_finished)
        texts = [text for text in seen if " done<" in text]
        assert any("0:01 done<" in text for text in texts) and not any("drawing" in text for text in seen)

    def test_the_number_of_waiting_jobs_is_limited(self, storage, upload, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(jobs, "MAX_WAITING", 1)
        worker = jobs.Worker("cpu")
        released = []
        worker.on_outcome = lambda job, outcome: wait_until(lambda: released)
        first, second, third = (self.job(storage, upload, tiny_checkpoint) for _ in range(3))
        worker.submit(first)
        wait_until(lambda: first.state is jobs.State.RUNNING)
        worker.submit(second)
        with pytest.raises(ConfigError, match="The server is busy"):
            worker.submit(third)
        released.append(True)
        wait_until(lambda: second.is_finished)

    def test_only_the_models_used_last_stay_loaded(self, tiny_checkpoint, tmp_path):
        worker = jobs.Worker("cpu")
        a, b, c = (shutil.copy(tiny_checkpoint, tmp_path / f"{name}.safetensors") for name in "abc")
        first = worker.model(options(a))
        worker.model(options(b))
        assert worker.model(options(a, segment_seconds=2.0, shifts=3)) is first
        assert first.segment_seconds == 2.0 and first.shifts == 3
        worker.model(options(c))
        assert list(worker._models) == [str(a), str(c)] and len(worker._models) == jobs.MAX_MODELS


def test_sound_is_interleaved_16_bit(tmp_path):
    samples = np.array([[0.0, 0.5], [-0.5, 2.0], [-2.0, 0.25]])
    soundfile.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    found = np.frombuffer(results.sound(tmp_path / "a.wav", 0, 10), "<i2").reshape(-1, 2)
    np.testing.assert_array_equal(found, [[0, 16384], [-16384, 32767], [-32768, 8192]])
    assert len(results.sound(tmp_path / "a.wav", 2, 1)) == 4
    assert results.sound(tmp_path / "a.wav", 3, 10) == results.sound(tmp_path / "a.wav", 99, -5) == b""


def test_names_in_a_zip_are_safe(tmp_path):
    (tmp_path / "speaker1.wav").write_bytes(b"x")
    names = ["../../etc/passwd.wav", "a.wav", "A.mp3", "...", "x" * 300 + ".wav", "b\\c:d?.wav"]
    entries = [results.PageEntry(name, None, {"speaker1": tmp_path / "speaker1.wav"}, "") for name in names]
    results.write_zip(entries, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        folders = [name.split("/")[0] for name in archive.namelist()]
        assert all(name.count("/") == 1 for name in archive.namelist())
    assert folders == ["passwd", "a", "A (2)", "recording", "x" * results.MAX_NAME, "b_c_d_"]


def test_html_in_failures_is_escaped():
    outcome = jobs.Outcome(jobs.Recording(Path("x"), "<script>.wav"), error="<b>bad</b>")
    page = results.make_entry(outcome, Path("token"), 0).page
    assert "<script>" not in page and "<b>bad" not in page and "&lt;script&gt;.wav" in page


def test_a_site_forgets_deleted_folders(storage, upload, tiny_checkpoint):
    shared = site.Site.open(storage, "cpu", 100)
    folder = shared.store.new()
    job = jobs.Job([jobs.Recording(shared.store.keep(upload, folder, 0), "a.wav")], options(tiny_checkpoint), folder)
    shared.submit(job)
    wait_until(lambda: job.is_finished)
    (entry,) = shared.entries[folder.name]
    assert entry.file("-").exists() and entry.file("speaker1").exists() and entry.file("nobody") is None
    heard, _ = soundfile.read(entry.file("-"))
    np.testing.assert_allclose(heard, soundfile.read(upload)[0], atol=1 / 32768)
    shared.store.discard(folder)
    shared.register(shared.store.new())
    assert folder.name not in shared.entries


def test_a_live_session_gives_the_stems_of_the_whole_recording(causal_checkpoint, tmp_path):
    import separator

    model = separator.Separator(causal_checkpoint, "cpu")
    samples = (0.1 * np.random.default_rng(0).standard_normal(10_000)).astype(np.float32)
    live = live_socket.Live(model, tmp_path, 8000)
    shown = b"".join(live.push(samples[start : start + 320]) for start in range(0, 10_000, 320))
    live.end()
    stems = model.separate(samples, 8000)
    for name, path in live.paths.items():
        written, rate = soundfile.read(path, dtype="float32")
        assert rate == 8000
        np.testing.assert_allclose(written, stems[name], atol=2e-4)
    np.testing.assert_allclose(soundfile.read(live.recording)[0], samples, atol=1 / 32768)
    columns = np.frombuffer(shown, np.uint8).reshape(-1, 2, 81)
    assert len(columns) == pytest.approx(10_000 / 320, abs=3) and columns[5:, :, 0].min() > 100


class TestLive:
    @pytest.fixture
    def shared(self, storage, causal_checkpoint, tiny_checkpoint):
        def choice(name, path):
            return models.Choice(str(path), name, can_stream=path == causal_checkpoint)

        choices = [choice("causal <b>", causal_checkpoint), choice("whole", tiny_checkpoint)]
        return site.Site.open(storage, "cpu", 1.0, choices)

    @pytest.fixture
    def visitor(self, shared):
        return TestClient(server.make_app(shared))

    def hello(self, **changes):
        return {"model": "causal <b>", "rate": 8000} | changes

    def test_a_session_that_is_too_long_ends_and_keeps_its_stems(self, visitor, shared):
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            assert socket.receive_json()["sources"] == ["speaker1", "speaker2"]
            for _ in range(3):
                socket.send_bytes(np.full(4000, 0.1, "<f4").tobytes())
            while "text" not in (message := socket.receive()):
                pass
        reply = json.loads(message["text"])
        assert "reached the time limit" in reply["told"] and "speaker2" in reply["page"]
        (entries,) = shared.entries.values()
        assert soundfile.info(entries[0].stems["speaker1"]).frames == 12_000

    @pytest.mark.parametrize(
        ("hello", "sound", "text"),
        [
            ({"model": "whole"}, b"", "cannot be used for live"),
            ({"model": "nobody"}, b"", "Unknown model"),
            ({"rate": 10}, b"", "cannot be used for live"),
            ({"rate": "8000"}, b"", "cannot be used for live"),
            ({}, np.full(100, np.nan, "<f4").tobytes(), "invalid audio data"),
            ({}, bytes(4 * 80_001), "invalid audio data"),
            ({}, bytes(7), "invalid message"),
        ],
    )
    def test_errors_are_reported_and_leave_no_files(self, visitor, storage, hello, sound, text):
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello(**hello))
            if sound:
                socket.receive_json()
                socket.send_bytes(sound)
            assert text in socket.receive_json()["error"]
        wait_until(lambda: is_empty(storage))

    def test_the_number_of_sessions_is_limited_and_leaving_frees_one(self, visitor, storage):
        with contextlib.ExitStack() as stack:
            for _ in range(live_socket.MAX_LIVE):
                socket = stack.enter_context(visitor.websocket_connect("/live"))
                socket.send_json(self.hello())
                socket.receive_json()
            with visitor.websocket_connect("/live") as another:
                assert "All live sessions are in use" in another.receive_json()["error"]
        wait_until(lambda: is_empty(storage))
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            assert "sources" in socket.receive_json()

    def test_the_folder_of_a_running_session_is_not_deleted(self, visitor, storage):
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            socket.receive_json()
            (folder,) = (path for path in storage.root.iterdir() if path != storage.uploads)
            os.utime(folder, (time.time() - 3700,) * 2)
            socket.send_bytes(np.full(1000, 0.1, "<f4").tobytes())
            wait_until(lambda: time.time() - folder.stat().st_mtime < 60)
            storage.sweep()
            socket.send_json({"stop": True})
            while "text" not in (message := socket.receive()):
                pass
            assert "speaker2" in json.loads(message["text"])["page"]

    def test_a_silent_browser_ends_the_session(self, visitor, monkeypatch, storage):
        monkeypatch.setattr(live_socket, "RECEIVE_TIMEOUT_SECONDS", 0.2)
        with visitor.websocket_connect("/live") as socket:
            assert "stopped sending sound" in socket.receive_json()["error"]
        wait_until(lambda: is_empty(storage))

    def test_an_internal_error_is_reported(self, visitor, monkeypatch, storage):
        def fail(live, samples):
            raise RuntimeError(f"CUDA, {storage.root}")

        monkeypatch.setattr(live_socket.Live, "push", fail)
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            socket.receive_json()
            socket.send_bytes(bytes(400))
            assert socket.receive_json()["error"].startswith("Internal error.")
        wait_until(lambda: is_empty(storage))

    def test_pages_of_other_sites_are_refused(self, visitor):
        with (
            pytest.raises(WebSocketDisconnect),
            visitor.websocket_connect("/live", headers={"origin": "http://elsewhere.example"}),
        ):
            pass

    def test_html_in_model_names_is_escaped(self):
        assert "<option>causal &lt;b&gt;</option>" in live_socket.markup(["causal <b>"])


def test_the_folder_of_a_waiting_job_is_not_deleted(storage):
    folder = storage.new()
    os.utime(folder, (time.time() - 3700,) * 2)
    storage.touch(folder)
    storage.touch(storage.root / "gone")
    storage.sweep()
    assert folder.exists()


def test_the_policy_allows_no_other_host(storage):
    visitor = TestClient(server.make_app(site.Site.open(storage, "cpu")))
    for name in ("player", "live", "page"):
        answer = visitor.get(f"/separator/{name}.js")
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200 and policy.startswith("default-src 'self'")
        assert not any(other in policy for other in ("http", "ws", "*"))
    assert visitor.get("/separator/nothing.js").status_code == 404


def test_requests_from_other_sites_are_refused(storage):
    shared = site.Site.open(storage, "cpu")
    visitor = TestClient(server.make_app(shared, ("127.0.0.1", "localhost")), base_url="http://127.0.0.1:7860")
    script = "/separator/player.js"
    assert visitor.get(script).status_code == 200
    assert visitor.get(script, headers={"host": "localhost:7860"}).status_code == 200
    # A page of another host whose name was made to resolve to this machine.
    assert visitor.get(script, headers={"host": "elsewhere.example:7860"}).status_code == 403
    headers = {"host": "elsewhere.example:7860", "origin": "http://elsewhere.example:7860"}
    with pytest.raises(WebSocketDisconnect), visitor.websocket_connect("/live", headers=headers):
        pass
    assert visitor.post(script, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert visitor.post("/gradio_api/process_recording").status_code == 403


def test_checkpoints_of_the_same_name_get_different_names(tiny_checkpoint, tmp_path):
    paths = []
    for name in "abc":
        (tmp_path / name / "run").mkdir(parents=True)
        paths.append(Path(shutil.copy(tiny_checkpoint, tmp_path / name / "run" / "best.safetensors")))
    found = models.choices(paths)[-3:]
    assert [choice.name for choice in found] == [f"run/best.safetensors{end}" for end in ("", " (2)", " (3)")]
    assert [choice.model for choice in found] == list(map(str, paths))


def test_entries_may_change_in_several_threads(storage, monkeypatch):
    """Visitors are registered in the event loop and removed in other threads."""
    shared = site.Site.open(storage, "cpu")
    folders = [storage.new() for _ in range(40)]
    for folder in folders:
        shared.register(folder)
    find = storage.find

    def find_slowly(token):
        time.sleep(1e-4)
        return find(token)

    monkeypatch.setattr(storage, "find", find_slowly)
    failures = []

    def register():
        try:
            for _ in range(20):
                shared.register(storage.new())
        except RuntimeError as error:
            failures.append(error)

    def leave(own_folders):
        for folder in own_folders:
            shared.discard(jobs.Job([], options("default"), folder))
            shared.entries_of(folder.name)

    leaving = (threading.Thread(target=leave, args=(folders[n::2],)) for n in (0, 1))
    threads = [threading.Thread(target=register), *leaving]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(shared.entries) == 20


def test_entries_of_returns_a_copy(storage):
    shared = site.Site.open(storage, "cpu")
    folder = storage.new()
    shared.register(folder)
    shown = shared.entries_of(folder.name)
    shown.append("x")
    assert shared.entries_of(folder.name) == [] and shared.entries_of("nobody") == []


def test_a_result_that_cannot_be_shown_is_a_failure(storage, upload, tiny_checkpoint):
    folder = storage.new()
    job = jobs.Job([jobs.Recording(storage.keep(upload, folder, 0), "a.wav")], options(tiny_checkpoint), folder)
    worker = jobs.Worker("cpu")

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    worker.on_outcome = fail
    worker.submit(job)
    wait_until(lambda: job.is_finished)
    (outcome,) = job.outcomes
    assert outcome.result is None and outcome.error == jobs.NO_SPACE
    text = layout.progress(site.Site(storage, worker, ()), job)
    assert "could not be separated" in text and "Done" not in text


def test_too_many_channels_for_a_format_are_reported_without_paths(storage, tiny_checkpoint):
    soundfile.write(storage.uploads / "wide.wav", np.zeros((8000, 3)), 8000)
    folder = storage.new()
    recording = jobs.Recording(storage.keep(storage.uploads / "wide.wav", folder, 0), "wide.wav")
    job = jobs.Job([recording], options(tiny_checkpoint, extension="mp3"), folder)
    jobs.Worker("cpu").submit(job)
    wait_until(lambda: job.is_finished)
    (outcome,) = job.outcomes
    assert outcome.error.startswith("MP3 supports at most 2 channels at 48000 Hz, but the recording has 3")
    assert str(storage.root) not in outcome.error


def test_chunk_settings_are_rejected_for_models_that_stream(storage, causal_checkpoint):
    choice = models.Choice(str(causal_checkpoint), "live", can_stream=True)
    handlers = layout.Handlers(site.Site.open(storage, "cpu", models=[choice]))
    usual = ("live", "MP3", "same as the recording", 12, 0.25, 1)
    chosen = handlers._options(*usual)
    assert (chosen.extension, chosen.subtype) == ("mp3", None)
    model = jobs.Worker("cpu").model(chosen)
    assert model.net.can_stream
    for changed in ((5, 0.25), (12, 0.5)):
        with pytest.raises(ConfigError, match=r"live works without chunks\. Leave Segment at 12 and Overlap"):
            handlers._options(*usual[:3], *changed, 1)


def test_stems_are_chosen_by_name(storage, tiny_checkpoint):
    choice = models.Choice(str(tiny_checkpoint), "tiny", sources=("speaker1", "speaker2"))
    handlers = layout.Handlers(site.Site.open(storage, "cpu", models=[choice]))
    usual = ("tiny", "WAV", "same as the recording", 12, 0.25, 1)
    assert handlers._options(*usual, "").stems is None
    chosen = handlers._options(*usual, "speaker2, ")
    assert chosen.stems == ("speaker2",) and jobs.Worker("cpu").model(chosen).sources == ("speaker2",)
    with pytest.raises(ConfigError, match="has no 'drums'; expected some of speaker1, speaker2"):
        handlers._options(*usual, "drums")


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "[::1]:{}"), ("127.0.0.1", "127.0.0.1:{}"), ("localhost", "localhost:{}")]
)
def test_the_server_listens_on_ipv4_and_ipv6(host, address):
    from separator.web import __main__ as command

    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with command._listen(host, 0) as listening:
        port = listening.getsockname()[1]
        assert command._authority(host, port) == address.format(port)
        socket.create_connection((host, port), timeout=10).close()
        message = re.escape(f"{address.format(port)} cannot be listened on")
        with pytest.raises(ConfigError, match=message):
            command._listen(host, port)


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
