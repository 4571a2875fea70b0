"""What is behind the page; the page itself is driven in test_web_page."""

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from separator.errors import ConfigError

pytest.importorskip("fastapi", reason="the extra web is not installed")
from separator.web import jobs, live, results, site, store


@pytest.fixture
def shelf_room():
    room = store.Store(age_seconds=3600)
    yield room
    room.close()


@pytest.fixture
def upload(tmp_path):
    samples = 0.1 * np.random.default_rng(0).standard_normal((16000, 2))
    soundfile.write(tmp_path / "call.wav", samples, 8000)
    return tmp_path / "call.wav"


def options(model, **changes):
    return jobs.Options(**{"model": str(model), "segment_seconds": 1.0, "overlap": 0.25} | changes)


def until(condition, seconds=60):
    for _ in range(seconds * 100):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to that")


class TestStore:
    def test_a_name_of_a_visitor_is_no_path(self, shelf_room, tmp_path):
        hostile = tmp_path / "..;rm -rf $HOME%2f\N{SNOWMAN}.wav.sh"
        hostile.write_bytes(b"x")
        folder = shelf_room.new()
        kept = shelf_room.keep(hostile, folder, 0)
        assert kept == folder / "recording0" and kept.read_bytes() == b"x"
        loud = tmp_path / "A.WAV"
        loud.write_bytes(b"y")
        assert shelf_room.keep(loud, folder, 1) == folder / "recording1.wav"

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

    def test_a_visitor_who_is_gone_is_not_waited_for(self, shelf_room, upload, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(jobs, "GONE_SECONDS", -1.0)
        job = self.job(shelf_room, upload, tiny_checkpoint)
        jobs.Worker("cpu").submit(job)
        until(lambda: job.is_finished)
        assert job.state is jobs.State.STOPPED

    def test_trouble_is_told_in_words_and_the_worker_lives_on(self, shelf_room, upload, tiny_checkpoint, tmp_path):
        worker = jobs.Worker("cpu", longest_seconds=1.0)
        text = tmp_path / "notes.wav"
        text.write_text("not audio")
        bad, long = self.job(shelf_room, text, tiny_checkpoint), self.job(shelf_room, upload, tiny_checkpoint)
        unknown = self.job(shelf_room, upload, "nothing")
        for job in (bad, long, unknown):
            worker.submit(job)
        until(lambda: unknown.is_finished)
        errors = [job.outcomes[0].error for job in (bad, long, unknown)]
        assert errors[0].startswith("Cannot be read as audio") and str(shelf_room.root) not in errors[0]
        assert "this page takes up to" in errors[1] and "this page takes up to" in errors[2]
        worker.longest_seconds = 100
        again = self.job(shelf_room, upload, tiny_checkpoint)
        worker.submit(again)
        until(lambda: again.is_finished)
        assert again.outcomes[0].result is not None

    def test_a_defect_is_told_without_a_traceback(self, shelf_room, upload, tiny_checkpoint):
        worker = jobs.Worker("cpu")
        worker.after = lambda job, outcome: 1 / 0
        job = self.job(shelf_room, upload, tiny_checkpoint)
        worker.submit(job)
        until(lambda: job.is_finished)
        assert "ZeroDivisionError" in job.outcomes[-1].error and job.state is jobs.State.DONE

    def test_so_many_may_wait(self, shelf_room, upload, tiny_checkpoint, monkeypatch):
        monkeypatch.setattr(jobs, "MOST_WAITING", 1)
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

    def test_few_models_stay_loaded(self, tiny_checkpoint):
        worker = jobs.Worker("cpu")
        for seconds in (1.0, 2.0, 3.0):
            worker.model(options(tiny_checkpoint, segment_seconds=seconds))
        assert len(worker._models) == jobs.MOST_MODELS


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
    assert folders == ["passwd", "a", "A (2)", "recording", "x" * results.LONGEST_NAME, "b_c_d_"]


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
    heard = live.Live(model, tmp_path, 8000)
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
