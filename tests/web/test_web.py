"""What is behind the page; the page itself is driven in test_web_page."""

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
def shelf_room():
    room = store.Store(age_seconds=3600)
    yield room
    room.close()


@pytest.fixture
def upload(shelf_room):
    samples = 0.1 * np.random.default_rng(0).standard_normal((16000, 2))
    soundfile.write(shelf_room.uploads / "call.wav", samples, 8000)
    return shelf_room.uploads / "call.wav"


def options(model, **changes):
    return jobs.Options(**{"model": str(model), "segment_seconds": 1.0, "overlap": 0.25} | changes)


def empty(room):
    return [path.name for path in room.root.iterdir()] == ["uploads"]


def until(condition, seconds=60):
    for _ in range(seconds * 100):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


class TestStore:
    def test_a_name_of_a_visitor_is_no_path(self, shelf_room, tmp_path):
        hostile = shelf_room.uploads / "..;rm -rf $HOME%2f\N{SNOWMAN}.wav.sh"
        hostile.write_bytes(b"x")
        folder = shelf_room.new()
        kept = shelf_room.keep(hostile, folder, 0)
        assert kept == folder / "recording0" and kept.read_bytes() == b"x"
        loud = shelf_room.uploads / "A.WAV"
        loud.write_bytes(b"y")
        assert shelf_room.keep(loud, folder, 1) == folder / "recording1.wav"

    def test_only_uploads_are_taken(self, shelf_room, tmp_path):
        (tmp_path / "mine.wav").write_bytes(b"x")
        (shelf_room.uploads / "link.wav").symlink_to(tmp_path / "mine.wav")
        folder = shelf_room.new()
        for path in (tmp_path / "mine.wav", shelf_room.uploads / "link.wav", "http://localhost/a.wav", "/dev/zero"):
            with pytest.raises(ConfigError, match="Only what was uploaded"):
                shelf_room.keep(path, folder, 0)
        with pytest.raises(ConfigError, match="kept for an hour"):
            shelf_room.keep(shelf_room.uploads / "gone.wav", folder, 0)
        assert not list(folder.iterdir())

    @pytest.mark.parametrize("token", ["..", ".", "", "a/../..", "../separator-web", "/etc"])
    def test_a_token_leads_nowhere_else(self, shelf_room, token):
        assert shelf_room.find(token) is None

    def test_folders_have_names_that_nobody_guesses(self, shelf_room):
        names = {shelf_room.new().name for _ in range(20)}
        assert len(names) == 20 and min(map(len, names)) >= 20
        assert all(shelf_room.find(name) for name in names)

    def test_what_is_old_goes(self, shelf_room):
        old, new = shelf_room.new(), shelf_room.new()
        (old / "stem.wav").write_bytes(b"x")
        os.utime(old, (time.time() - 3700,) * 2)
        shelf_room.sweep()
        assert not old.exists() and new.exists()
        # Of uploads each by itself, however old the folder of all of them is.
        (shelf_room.uploads / "one").mkdir()
        for name, age in (("one/old.wav", 3700), ("new.wav", 0), ("one", 3700), ("", 3700)):
            path = shelf_room.uploads / name
            path.touch()
            os.utime(path, (time.time() - age,) * 2)
        shelf_room.sweep()
        assert [path.name for path in shelf_room.uploads.rglob("*")] == ["one", "new.wav"]
        os.utime(shelf_room.uploads / "one", (time.time() - 3700,) * 2)
        shelf_room.sweep()
        assert [path.name for path in shelf_room.uploads.rglob("*")] == ["new.wav"]
        shelf_room.close()
        assert not shelf_room.root.exists()


class TestWorker:
    def job(self, room, upload, tiny_checkpoint, **changes):
        folder = room.new()
        recordings = [jobs.Recording(room.keep(upload, folder, 0), upload.name)]
        return jobs.Job(recordings, options(tiny_checkpoint, **changes), folder)

    def test_stems_are_those_of_separate(self, shelf_room, upload, tiny_checkpoint, tmp_path):
        from separator import cli

        job = self.job(shelf_room, upload, tiny_checkpoint)
        jobs.Worker("cpu").submit(job)
        until(lambda: job.is_finished)
        assert job.state is jobs.State.DONE and job.outcomes[0].error == ""
        arguments = ["-m", str(tiny_checkpoint), "--segment", "1", "-o", str(tmp_path / "cli"), "-d", "cpu"]
        assert cli.main([str(upload), *arguments]) == 0
        for name, path in job.outcomes[0].result.paths.items():
            assert path.read_bytes() == (tmp_path / "cli" / "call" / f"{name}.wav").read_bytes()

    def test_jobs_wait_their_turn_and_know_it(self, shelf_room, upload, tiny_checkpoint):
        worker = jobs.Worker("cpu")
        held = []
        worker.after = lambda job, outcome: until(lambda: held)
        queue = [self.job(shelf_room, upload, tiny_checkpoint) for _ in range(3)]
        worker.submit(queue[0])
        until(lambda: queue[0].state is jobs.State.RUNNING)
        for job in queue[1:]:
            worker.submit(job)
        assert [worker.ahead(job) for job in queue] == [0, 1, 2]
        queue[1].stop()
        assert queue[1].state is jobs.State.STOPPED and worker.ahead(queue[2]) == 1
        held.append(True)
        until(lambda: queue[2].is_finished)
        assert [job.state for job in queue] == [jobs.State.DONE, jobs.State.STOPPED, jobs.State.DONE]

    def test_stopping_ends_it_and_nothing_stays(self, shelf_room, upload, tiny_checkpoint, monkeypatch):
        job = self.job(shelf_room, upload, tiny_checkpoint)
        worker = jobs.Worker("cpu")
        worker.model(job.options)  # loaded before
        monkeypatch.setattr(jobs.Job, "is_unwanted", property(lambda job: job.done_seconds > 0))
        worker.submit(job)
        until(lambda: job.is_finished)
        assert job.state is jobs.State.STOPPED and not job.outcomes
        assert [path.name for path in job.folder.rglob("*") if path.is_file()] == ["recording0.wav"]

    def test_the_end_waits_for_the_thread_that_computes(self, shelf_room, upload, tiny_checkpoint):
        worker = jobs.Worker("cpu")
        at_work, held = [], []
        worker.after = lambda job, outcome: at_work.append(job) or until(lambda: held)
        queue = [self.job(shelf_room, upload, tiny_checkpoint) for _ in range(2)]
        for job in queue:
            worker.submit(job)
        until(lambda: at_work)
        threading.Timer(0.3, held.append, [True]).start()
        worker.close()
        assert at_work == queue[:1] and queue[1].state is jobs.State.STOPPED
        assert queue[0].is_finished and held

    def test_a_visitor_who_is_gone_is_not_waited_for(self, shelf_room, upload, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(jobs, "GONE_SECONDS", -1.0)
        job = self.job(shelf_room, upload, tiny_checkpoint)
        jobs.Worker("cpu").submit(job)
        until(lambda: job.is_finished)
        assert job.state is jobs.State.STOPPED

    def test_trouble_is_told_in_words_and_the_worker_lives_on(self, shelf_room, upload, tiny_checkpoint, tmp_path):
        worker = jobs.Worker("cpu", longest_seconds=1.0)
        text = shelf_room.uploads / "notes.wav"
        text.write_text("not audio")
        bad, long = self.job(shelf_room, text, tiny_checkpoint), self.job(shelf_room, upload, tiny_checkpoint)
        for job in (bad, long):
            worker.submit(job)
        until(lambda: long.is_finished)
        worker.longest_seconds = 100
        unknown = self.job(shelf_room, upload, tmp_path / "gone.safetensors")
        full = self.job(shelf_room, upload, tiny_checkpoint)
        (full.folder / "stems0").write_text("no folder can be here")
        for job in (unknown, full):
            worker.submit(job)
        until(lambda: full.is_finished)
        errors = [job.outcomes[0].error for job in (bad, long, unknown, full)]
        assert errors[0].startswith("Cannot be read as audio") and "this page takes up to" in errors[1]
        assert "gone.safetensors: no such file" in errors[2] and errors[3] == jobs.NO_ROOM
        assert not any(str(folder) in error for error in errors for folder in (shelf_room.root, tmp_path))
        again = self.job(shelf_room, upload, tiny_checkpoint)
        worker.submit(again)
        until(lambda: again.is_finished)
        assert again.outcomes[0].result is not None

    @pytest.mark.parametrize(
        ("error", "text"), [(ZeroDivisionError(), "ZeroDivisionError"), (OSError(errno.ENOSPC, "full"), "no room")]
    )
    def test_a_defect_is_told_and_the_others_are_separated(
        self, shelf_room, upload, tiny_checkpoint, monkeypatch, error, text
    ):
        place = site.Site.open(shelf_room, "cpu")
        job = self.job(shelf_room, upload, tiny_checkpoint)
        job.recordings = [job.recordings[0], jobs.Recording(job.recordings[0].path, "second.wav")]
        draw = results.shelve

        def fail_once(outcome, folder, number):
            if outcome.result and number == 0:
                raise error
            return draw(outcome, folder, number)

        monkeypatch.setattr(results, "shelve", fail_once)
        place.submit(job)
        until(lambda: job.is_finished)
        assert text in job.outcomes[0].error and job.outcomes[1].result and job.state is jobs.State.DONE
        first, second = place.shelves[job.folder.name]
        assert text in first.page and "Traceback" not in first.page and "speaker1" in second.page

    def test_how_far_it_is_where_nobody_knows_how_long_it_is(self, shelf_room, upload, tiny_checkpoint, monkeypatch):
        seen, worker = [], jobs.Worker("cpu")
        job = self.job(shelf_room, upload, tiny_checkpoint)
        hear = readers.open_recording

        def without_length(path, *chosen):
            recording = hear(path, *chosen)
            recording.promised = None
            return recording

        monkeypatch.setattr(readers, "open_recording", without_length)
        place = site.Site(shelf_room, worker, ())
        told = jobs.Job.is_unwanted.fget
        monkeypatch.setattr(
            jobs.Job, "is_unwanted", property(lambda job: seen.append(layout.progress(place, job)) or told(job))
        )
        worker.submit(job)
        until(lambda: job.is_finished)
        texts = [text for text in seen if " done<" in text]
        assert any("0:01 done<" in text for text in texts) and not any("drawing" in text for text in seen)

    def test_so_many_may_wait(self, shelf_room, upload, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(jobs, "MAX_WAITING", 1)
        worker = jobs.Worker("cpu")
        held = []
        worker.after = lambda job, outcome: until(lambda: held)
        first, second, third = (self.job(shelf_room, upload, tiny_checkpoint) for _ in range(3))
        worker.submit(first)
        until(lambda: first.state is jobs.State.RUNNING)
        worker.submit(second)
        with pytest.raises(ConfigError, match="Too many others"):
            worker.submit(third)
        held.append(True)
        until(lambda: second.is_finished)

    def test_few_models_stay_loaded_and_those_that_are_used(self, tiny_checkpoint, tmp_path):
        worker = jobs.Worker("cpu")
        a, b, c = (shutil.copy(tiny_checkpoint, tmp_path / f"{name}.safetensors") for name in "abc")
        first = worker.model(options(a))
        worker.model(options(b))
        assert worker.model(options(a, segment_seconds=2.0, shifts=3)) is first
        assert first.segment_seconds == 2.0 and first.shifts == 3
        worker.model(options(c))
        assert list(worker._models) == [str(a), str(c)] and len(worker._models) == jobs.MAX_MODELS


def test_sound_is_16_bit_side_by_side(tmp_path):
    samples = np.array([[0.0, 0.5], [-0.5, 2.0], [-2.0, 0.25]])
    soundfile.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    heard = np.frombuffer(results.sound(tmp_path / "a.wav", 0, 10), "<i2").reshape(-1, 2)
    np.testing.assert_array_equal(heard, [[0, 16384], [-16384, 32767], [-32768, 8192]])
    assert len(results.sound(tmp_path / "a.wav", 2, 1)) == 4
    assert results.sound(tmp_path / "a.wav", 3, 10) == results.sound(tmp_path / "a.wav", 99, -5) == b""


def test_names_in_a_zip_are_harmless(tmp_path):
    (tmp_path / "speaker1.wav").write_bytes(b"x")
    names = ["../../etc/passwd.wav", "a.wav", "A.mp3", "...", "x" * 300 + ".wav", "b\\c:d?.wav"]
    shelves = [results.Shelf(name, None, {"speaker1": tmp_path / "speaker1.wav"}, "") for name in names]
    results.write_zip(shelves, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        folders = [name.split("/")[0] for name in archive.namelist()]
        assert all(name.count("/") == 1 for name in archive.namelist())
    assert folders == ["passwd", "a", "A (2)", "recording", "x" * results.MAX_NAME, "b_c_d_"]


def test_what_a_visitor_sees_of_a_failure_cannot_be_html():
    outcome = jobs.Outcome(jobs.Recording(Path("x"), "<script>.wav"), error="<b>bad</b>")
    page = results.shelve(outcome, Path("token"), 0).page
    assert "<script>" not in page and "<b>bad" not in page and "&lt;script&gt;.wav" in page


def test_a_site_forgets_what_is_gone(shelf_room, upload, tiny_checkpoint):
    place = site.Site.open(shelf_room, "cpu", 100)
    folder = place.store.new()
    job = jobs.Job([jobs.Recording(place.store.keep(upload, folder, 0), "a.wav")], options(tiny_checkpoint), folder)
    place.submit(job)
    until(lambda: job.is_finished)
    (shelf,) = place.shelves[folder.name]
    assert shelf.file("-").exists() and shelf.file("speaker1").exists() and shelf.file("nobody") is None
    heard, _ = soundfile.read(shelf.file("-"))
    np.testing.assert_allclose(heard, soundfile.read(upload)[0], atol=1 / 32768)
    place.store.discard(folder)
    place.begin(place.store.new())
    assert folder.name not in place.shelves


def test_live_gives_what_a_stream_gives(causal_checkpoint, tmp_path):
    import separator

    model = separator.Separator(causal_checkpoint, "cpu")
    samples = (0.1 * np.random.default_rng(0).standard_normal(10_000)).astype(np.float32)
    heard = live_socket.Live(model, tmp_path, 8000)
    shown = b"".join(heard.push(samples[start : start + 320]) for start in range(0, 10_000, 320))
    heard.end()
    stems = model.separate(samples, 8000)
    for name, path in heard.paths.items():
        written, rate = soundfile.read(path, dtype="float32")
        assert rate == 8000
        np.testing.assert_allclose(written, stems[name], atol=2e-4)
    np.testing.assert_allclose(soundfile.read(heard.recording)[0], samples, atol=1 / 32768)
    columns = np.frombuffer(shown, np.uint8).reshape(-1, 2, 81)
    assert len(columns) == pytest.approx(10_000 / 320, abs=3) and columns[5:, :, 0].min() > 100


class TestLive:
    @pytest.fixture
    def place(self, shelf_room, causal_checkpoint, tiny_checkpoint):
        def choice(name, path):
            return models.Choice(str(path), name, can_stream=path == causal_checkpoint)

        choices = [choice("causal <b>", causal_checkpoint), choice("whole", tiny_checkpoint)]
        return site.Site.open(shelf_room, "cpu", 1.0, choices)

    @pytest.fixture
    def visitor(self, place):
        return TestClient(server.make_app(place))

    def hello(self, **changes):
        return {"model": "causal <b>", "rate": 8000} | changes

    def test_it_ends_when_it_is_too_long_and_keeps_what_there_is(self, visitor, place):
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            assert socket.receive_json()["sources"] == ["speaker1", "speaker2"]
            for _ in range(3):
                socket.send_bytes(np.full(4000, 0.1, "<f4").tobytes())
            while "text" not in (message := socket.receive()):
                pass
        said = json.loads(message["text"])
        assert "takes no more at a time" in said["told"] and "speaker2" in said["page"]
        (shelves,) = place.shelves.values()
        assert soundfile.info(shelves[0].stems["speaker1"]).frames == 12_000

    @pytest.mark.parametrize(
        ("hello", "sound", "text"),
        [
            ({"model": "whole"}, b"", "no such model"),
            ({"model": "nobody"}, b"", "no such model"),
            ({"rate": 10}, b"", "no such model"),
            ({"rate": "8000"}, b"", "no such model"),
            ({}, np.full(100, np.nan, "<f4").tobytes(), "what is no sound"),
            ({}, bytes(4 * 80_001), "what is no sound"),
            ({}, bytes(7), "sent no sound"),
        ],
    )
    def test_what_is_wrong_is_told_and_nothing_stays(self, visitor, shelf_room, hello, sound, text):
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello(**hello))
            if sound:
                socket.receive_json()
                socket.send_bytes(sound)
            assert text in socket.receive_json()["error"]
        until(lambda: empty(shelf_room))

    def test_few_are_live_at_a_time_and_those_who_leave_make_room(self, visitor, shelf_room):
        with contextlib.ExitStack() as stack:
            for _ in range(live_socket.MAX_LIVE):
                socket = stack.enter_context(visitor.websocket_connect("/live"))
                socket.send_json(self.hello())
                socket.receive_json()
            with visitor.websocket_connect("/live") as another:
                assert "Others are live already" in another.receive_json()["error"]
        until(lambda: empty(shelf_room))
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            assert "sources" in socket.receive_json()

    def test_what_goes_on_is_not_too_old(self, visitor, shelf_room):
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            socket.receive_json()
            (folder,) = (path for path in shelf_room.root.iterdir() if path != shelf_room.uploads)
            os.utime(folder, (time.time() - 3700,) * 2)
            socket.send_bytes(np.full(1000, 0.1, "<f4").tobytes())
            until(lambda: time.time() - folder.stat().st_mtime < 60)
            shelf_room.sweep()
            socket.send_json({"stop": True})
            while "text" not in (message := socket.receive()):
                pass
            assert "speaker2" in json.loads(message["text"])["page"]

    def test_who_sends_nothing_makes_room(self, visitor, monkeypatch, shelf_room):
        monkeypatch.setattr(live_socket, "SILENT_SECONDS", 0.2)
        with visitor.websocket_connect("/live") as socket:
            assert "No sound came any more" in socket.receive_json()["error"]
        until(lambda: empty(shelf_room))

    def test_a_defect_is_told_in_words(self, visitor, monkeypatch, shelf_room):
        def fail(live, samples):
            raise RuntimeError(f"CUDA, {shelf_room.root}")

        monkeypatch.setattr(live_socket.Live, "push", fail)
        with visitor.websocket_connect("/live") as socket:
            socket.send_json(self.hello())
            socket.receive_json()
            socket.send_bytes(bytes(400))
            assert socket.receive_json()["error"].startswith("Something went wrong that should not have.")
        until(lambda: empty(shelf_room))

    def test_pages_of_other_sites_are_not_listened_to(self, visitor):
        with (
            pytest.raises(WebSocketDisconnect),
            visitor.websocket_connect("/live", headers={"origin": "http://elsewhere.example"}),
        ):
            pass

    def test_names_of_models_cannot_write_html(self):
        assert "<option>causal &lt;b&gt;</option>" in live_socket.markup(["causal <b>"])


def test_what_waits_is_not_too_old(shelf_room):
    folder = shelf_room.new()
    os.utime(folder, (time.time() - 3700,) * 2)
    shelf_room.touch(folder)
    shelf_room.touch(shelf_room.root / "gone")
    shelf_room.sweep()
    assert folder.exists()


def test_browsers_are_told_to_ask_no_other_host(shelf_room):
    visitor = TestClient(server.make_app(site.Site.open(shelf_room, "cpu")))
    for name in ("player", "live", "page"):
        answer = visitor.get(f"/separator/{name}.js")
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200 and policy.startswith("default-src 'self'")
        assert not any(other in policy for other in ("http", "ws", "*"))
    assert visitor.get("/separator/nothing.js").status_code == 404


def test_only_its_own_visitors_are_served(shelf_room):
    place = site.Site.open(shelf_room, "cpu")
    visitor = TestClient(server.make_app(place, ("127.0.0.1", "localhost")), base_url="http://127.0.0.1:7860")
    script = "/separator/player.js"
    assert visitor.get(script).status_code == 200
    assert visitor.get(script, headers={"host": "localhost:7860"}).status_code == 200
    # A page of somebody else's, whose name was made to point here.
    assert visitor.get(script, headers={"host": "elsewhere.example:7860"}).status_code == 403
    headers = {"host": "elsewhere.example:7860", "origin": "http://elsewhere.example:7860"}
    with pytest.raises(WebSocketDisconnect), visitor.websocket_connect("/live", headers=headers):
        pass
    assert visitor.post(script, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert visitor.post("/gradio_api/process_recording").status_code == 403


def test_checkpoints_of_one_name_are_told_apart(tiny_checkpoint, tmp_path):
    paths = []
    for name in "abc":
        (tmp_path / name / "run").mkdir(parents=True)
        paths.append(Path(shutil.copy(tiny_checkpoint, tmp_path / name / "run" / "best.safetensors")))
    found = models.choices(paths)[-3:]
    assert [choice.name for choice in found] == [f"run/best.safetensors{end}" for end in ("", " (2)", " (3)")]
    assert [choice.model for choice in found] == list(map(str, paths))


def test_shelves_may_change_while_folders_are_looked_for(shelf_room, monkeypatch):
    """Visitors begin in the event loop, and are forgotten in other threads."""
    place = site.Site.open(shelf_room, "cpu")
    folders = [shelf_room.new() for _ in range(40)]
    for folder in folders:
        place.begin(folder)
    find = shelf_room.find

    def find_slowly(token):
        time.sleep(1e-4)
        return find(token)

    monkeypatch.setattr(shelf_room, "find", find_slowly)
    failures = []

    def begin():
        try:
            for _ in range(20):
                place.begin(shelf_room.new())
        except RuntimeError as error:
            failures.append(error)

    def leave(some):
        for folder in some:
            place.discard(jobs.Job([], options("default"), folder))
            place.shelved(folder.name)

    threads = [threading.Thread(target=begin), *(threading.Thread(target=leave, args=(folders[n::2],)) for n in (0, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and len(place.shelves) == 20


def test_a_shelf_that_is_shown_does_not_change(shelf_room):
    place = site.Site.open(shelf_room, "cpu")
    folder = shelf_room.new()
    place.begin(folder)
    shown = place.shelved(folder.name)
    shown.append("x")
    assert place.shelved(folder.name) == [] and place.shelved("nobody") == []


def test_what_cannot_even_be_shown_is_a_failure(shelf_room, upload, tiny_checkpoint):
    folder = shelf_room.new()
    job = jobs.Job([jobs.Recording(shelf_room.keep(upload, folder, 0), "a.wav")], options(tiny_checkpoint), folder)
    worker = jobs.Worker("cpu")

    def after(*_):
        raise OSError(errno.ENOSPC, "full")

    worker.after = after
    worker.submit(job)
    until(lambda: job.is_finished)
    (outcome,) = job.outcomes
    assert outcome.result is None and outcome.error == jobs.NO_ROOM
    told = layout.progress(site.Site(shelf_room, worker, ()), job)
    assert "could not be separated" in told and "Done" not in told


def test_a_format_that_does_not_hold_so_much_is_told_to_visitors(shelf_room, tiny_checkpoint):
    soundfile.write(shelf_room.uploads / "wide.wav", np.zeros((8000, 3)), 8000)
    folder = shelf_room.new()
    recording = jobs.Recording(shelf_room.keep(shelf_room.uploads / "wide.wav", folder, 0), "wide.wav")
    job = jobs.Job([recording], options(tiny_checkpoint, extension="mp3"), folder)
    jobs.Worker("cpu").submit(job)
    until(lambda: job.is_finished)
    (outcome,) = job.outcomes
    assert outcome.error.startswith("MP3 holds at most 2 channels at 48000 Hz, the recording has 3")
    assert str(shelf_room.root) not in outcome.error


def test_pieces_are_not_for_models_that_stream(shelf_room, causal_checkpoint):
    choice = models.Choice(str(causal_checkpoint), "live", can_stream=True)
    visit = layout.Visit(site.Site.open(shelf_room, "cpu", models=[choice]))
    usual = ("live", "MP3", "as the recording", 12, 0.25, 1)
    chosen = visit._options(*usual)
    assert (chosen.extension, chosen.subtype) == ("mp3", None)
    model = jobs.Worker("cpu").model(chosen)
    assert model.net.can_stream
    for changed in ((5, 0.25), (12, 0.5)):
        with pytest.raises(ConfigError, match="live takes a recording without pieces: leave Segment at 12 and Overlap"):
            visit._options(*usual[:3], *changed, 1)


def test_stems_are_chosen_by_their_names(shelf_room, tiny_checkpoint):
    choice = models.Choice(str(tiny_checkpoint), "tiny", sources=("speaker1", "speaker2"))
    visit = layout.Visit(site.Site.open(shelf_room, "cpu", models=[choice]))
    usual = ("tiny", "WAV", "as the recording", 12, 0.25, 1)
    assert visit._options(*usual, "").stems is None
    chosen = visit._options(*usual, "speaker2, ")
    assert chosen.stems == ("speaker2",) and jobs.Worker("cpu").model(chosen).sources == ("speaker2",)
    with pytest.raises(ConfigError, match="has no 'drums'; expected some of speaker1, speaker2"):
        visit._options(*usual, "drums")


@pytest.mark.parametrize(
    ("host", "address"), [("::1", "[::1]:{}"), ("127.0.0.1", "127.0.0.1:{}"), ("localhost", "localhost:{}")]
)
def test_it_listens_at_both_kinds_of_addresses(host, address):
    from separator.web import __main__ as command

    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    with command._listen(host, 0) as listening:
        port = listening.getsockname()[1]
        assert command._authority(host, port) == address.format(port)
        socket.create_connection((host, port), timeout=10).close()
        taken = re.escape(f"{address.format(port)} cannot be listened at")
        with pytest.raises(ConfigError, match=taken):
            command._listen(host, port)


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
