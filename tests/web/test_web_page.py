"""The page as a visitor uses it: a server, and a browser without a window."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from urllib.parse import urlsplit

import numpy as np
import pytest
import soundfile

from separator import cli
from separator.html import player

pytest.importorskip("gradio", reason="the extra web is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
    pytest.mark.xdist_group("browser"),
]
SECONDS = 60


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Recordings of different kinds."""
    folder = tmp_path_factory.mktemp("recordings")
    random = np.random.default_rng(0)
    soundfile.write(folder / "call.wav", 0.1 * random.standard_normal((3 * 8000, 2)), 8000)
    soundfile.write(folder / "Ünïcode & <b>.flac", 0.1 * random.standard_normal(8000), 8000)
    soundfile.write(folder / "silent.wav", np.zeros(8000), 8000)
    soundfile.write(folder / "long.flac", 0.1 * random.standard_normal(1200 * 8000), 8000)
    soundfile.write(folder / "ten.wav", 0.1 * random.standard_normal(10 * 8000), 8000)
    soundfile.write(folder / "minutes.flac", 0.1 * random.standard_normal(300 * 8000), 8000)
    soundfile.write(folder / "beyond.flac", np.zeros(1300 * 8000), 8000)
    (folder / "notes.wav").write_text("this is not audio")
    return folder


@pytest.fixture(scope="module")
def address(tmp_path_factory, causal_checkpoint, recordings):
    """Address of a server for this module."""
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "separator.web", "--port", str(port), "-d", "cpu", "-m", str(causal_checkpoint)]
    with log.open("w") as file:
        server = subprocess.Popen([*command, "--max-minutes", "21", "--no-browser"], stdout=file, stderr=file)
    url = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(SECONDS * 10):
            try:
                urllib.request.urlopen(url).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.1)
        yield url
        assert "Traceback" not in log.read_text(), log.read_text()
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser(recordings):
    with playwright.sync_playwright() as driver:
        arguments = ["--autoplay-policy=no-user-gesture-required", "--use-fake-device-for-media-stream"]
        arguments += ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={recordings / 'call.wav'}"]
        if os.getuid() == 0:
            arguments.append("--no-sandbox")
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, address):
    """Open the page as a new visitor. At the end, check that it sent no request elsewhere and that no script failed."""
    contexts, asked, errors = [], [], []

    def open_page(**settings):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | settings)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(SECONDS * 1000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#start")
        return page

    yield open_page
    for context in contexts:
        context.close()
    hosts = {urlsplit(url).hostname for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {"127.0.0.1"} and not errors


def upload(page, *paths):
    page.set_input_files("#files input[type=file]", [str(path) for path in paths])
    for path in paths:
        page.wait_for_selector(f"#files .file-preview :text('{path.stem[:4]}')")  # the upload is complete


def status(page):
    return page.inner_text("#told")


def choose_tiny(page):
    page.click("#model input")
    page.click("[role=option]:has-text('.safetensors')")


def separate(page, *paths):
    upload(page, *paths)
    page.click("#start")
    page.wait_for_selector("#told :text('Done')")
    page.wait_for_selector(".results .player")  # the page may show the status first


def download(page, selector, folder):
    with page.expect_download() as event:
        page.click(selector)
    path = folder / event.value.suggested_filename
    event.value.save_as(path)
    return path


def test_a_recording_is_separated_played_and_saved(visit, recordings, tmp_path, causal_checkpoint):
    page = visit()
    choose_tiny(page)
    separate(page, recordings / "call.wav")
    assert page.locator(".player .track .name").all_inner_texts() == ["recording", "speaker1", "speaker2"]
    path = download(page, ".track:has-text('speaker2') .download", tmp_path)
    assert path.name == "call_speaker2.wav"
    assert (
        cli.main([str(recordings / "call.wav"), "-m", str(causal_checkpoint), "-o", str(tmp_path / "cli"), "-d", "cpu"])
        == 0
    )
    assert path.read_bytes() == (tmp_path / "cli" / "call" / "speaker2.wav").read_bytes()
    with zipfile.ZipFile(download(page, ".all", tmp_path)) as archive:
        assert sorted(archive.namelist()) == ["call/speaker1.wav", "call/speaker2.wav"]
        assert archive.read("call/speaker2.wav") == path.read_bytes()
    page.click("text=Figures")
    figures = page.inner_text(".results details")
    assert "0:03 at 8000 Hz, stereo" in figures and "gain to avoid clipping" in figures


def test_the_tracks_play_in_sync_and_are_mixed(visit, recordings):
    page = visit()
    page.evaluate(
        """() => {
            window.started = [];
            const start = AudioBufferSourceNode.prototype.start;
            AudioBufferSourceNode.prototype.start = function (when) {
                window.started.push([when, this.buffer.length, this.buffer.sampleRate]);
                return start.call(this, when);
            };
        }"""
    )
    choose_tiny(page)
    separate(page, recordings / "call.wav")
    page.click(".player .play")
    page.wait_for_function("document.querySelector('.player .clock').textContent.match(/^0:0[1-3]/)")
    started = page.evaluate("window.started")
    assert len(started) == 3 and len({tuple(one) for one in started}) == 1 and started[0][1:] == [24000, 8000]

    def wait_for_gains(wanted):
        """Wait for the end of the fades. They need playback, which may end earlier on a busy machine."""
        page.wait_for_function(
            """(wanted) => {
                const player = document.querySelector('.player');
                if (!player.classList.contains('is-playing')) player.querySelector('.play').click();
                return player.separatorPlayer.gains.every(
                    (node, number) => Math.abs(node.gain.value - wanted[number]) < 0.01
                );
            }""",
            arg=wanted,
        )

    wait_for_gains([0, 1, 1])
    page.click(".track:has-text('speaker1') .mute")
    wait_for_gains([0, 0, 1])
    page.click(".track:has-text('recording') .solo")
    wait_for_gains([1, 0, 0])
    page.click(".track:has-text('recording') .solo")
    page.locator(".track:has-text('speaker2') .level").fill("-20")
    wait_for_gains([0, 0, 0.1])
    page.wait_for_function("!document.querySelector('.player').classList.contains('is-playing')")
    assert page.inner_text(".player .clock") == "0:03 / 0:03"
    page.locator(".player .seek").fill("2")
    assert page.inner_text(".player .clock").startswith("0:02")
    page.click(".track:has-text('speaker1') .alone")
    wait_for_gains([0, 1, 0])


def test_blocks_follow_each_other_without_a_gap(visit, recordings):
    page = visit()
    choose_tiny(page)
    separate(page, recordings / "ten.wav")
    page.evaluate(
        """() => {
            window.scheduled = [];
            const start = AudioBufferSourceNode.prototype.start;
            AudioBufferSourceNode.prototype.start = function (when) {
                window.scheduled.push([when, this.buffer.length / this.buffer.sampleRate]);
                start.call(this, when);
            };
        }"""
    )
    page.click(".player .play")
    page.wait_for_function("window.scheduled.length === 9")  # three blocks of three tracks
    blocks = np.array(page.evaluate("window.scheduled")).reshape(3, 3, 2)
    assert (blocks[:, :, 0] == blocks[:, :1, 0]).all()  # all tracks at the same time
    np.testing.assert_allclose(blocks[:, 0, 1], [4, 4, 2])
    np.testing.assert_allclose(np.diff(blocks[:, 0, 0]), 4, atol=1e-6)


def test_too_many_recordings_are_rejected(visit, recordings):
    page = visit()
    page.set_input_files("#files input[type=file]", [str(recordings / "silent.wav")] * 101)
    page.wait_for_function("document.querySelectorAll('#files .file-preview .file').length === 101")
    page.click("#start")
    page.wait_for_selector("#told :text('101 recordings are too many. This page takes 100 at a time.')")
    assert page.is_enabled("#start") and page.is_disabled("#stop") and page.locator(".player").count() == 0


def test_scrolling_with_a_finger_does_not_seek(visit, recordings):
    page = visit()
    choose_tiny(page)
    separate(page, recordings / "call.wav")
    page.evaluate(
        """() => {
            const lane = document.querySelector('.player .lane');
            lane.setPointerCapture = () => {};
            window.send = (kind, x, button = 0) => lane.dispatchEvent(new PointerEvent(kind, {
                clientX: lane.getBoundingClientRect().left + x * lane.getBoundingClientRect().width, button }));
            window.at = () => document.querySelector('.player').separatorPlayer.position;
        }"""
    )
    page.evaluate("send('pointerdown', 0.5); send('pointerup', 0.5)")
    assert page.evaluate("at()") == pytest.approx(1.5, abs=0.05)
    page.evaluate("send('pointerdown', 0.1); send('pointermove', 0.1); send('pointercancel', 0.1)")
    assert page.evaluate("at()") == pytest.approx(1.5, abs=0.05)
    page.evaluate("send('pointerdown', 0.1); send('pointermove', 0.3); send('pointercancel', 0.3)")
    assert page.evaluate("at()") == pytest.approx(1.5, abs=0.05)
    page.evaluate("send('pointerdown', 0.1, 2); send('pointerup', 0.1, 2)")  # the right button opens a menu
    assert page.evaluate("at()") == pytest.approx(1.5, abs=0.05)
    page.evaluate("send('pointerdown', 0.1); send('pointermove', 0.3); send('pointerup', 0.2)")
    assert page.evaluate("at()") == pytest.approx(0.6, abs=0.05)


def test_playback_continues_when_the_player_is_replaced(visit, recordings):
    page = visit()
    upload(page, recordings / "ten.wav", recordings / "long.flac")  # ten seconds, for busy machines
    page.click("#start")
    page.wait_for_selector(".player")
    page.locator(".track:has-text('speaker1') .level").fill("-6")
    page.click(".player .play")
    first = page.evaluate_handle("document.querySelector('.player').separatorPlayer")
    page.click("#stop")
    page.wait_for_selector("#told :text('Stopped')")
    page.evaluate("(first) => { const root = first.root; root.outerHTML = root.outerHTML; }", first)
    page.wait_for_function(
        """(first) => { const now = document.querySelector('.player').separatorPlayer;
        return now !== first && now.playing && now.now() > 1; }""",
        arg=first,
    )
    now = page.evaluate_handle("document.querySelector('.player').separatorPlayer")
    assert not first.evaluate("(player) => player.playing")
    assert page.locator(".track:has-text('speaker1') .level").input_value() == "-6"
    page.click(".track:has-text('speaker2') .mute")
    page.wait_for_timeout(300)
    gains = now.evaluate("(player) => player.gains.map((node) => node.gain.value)")
    assert gains == pytest.approx([0, 10 ** (-6 / 20), 0, 1], abs=0.01)  # recording, speakers, background


def test_a_player_keeps_its_settings_when_others_are_added(visit, recordings):
    page = visit()
    choose_tiny(page)
    upload(page, recordings / "call.wav", recordings / "minutes.flac", recordings / "silent.wav")
    page.click("#start")
    first = page.locator(".player").first
    first.wait_for()
    first.locator(".track:has-text('speaker1') .solo").click()
    first.locator(".track:has-text('speaker2') .level").fill("-6")
    page.wait_for_selector("#told :text('Done in')")
    assert page.locator(".player").count() == 3
    assert first.locator(".clock").inner_text() == "0:00 / 0:03"
    assert first.locator(".track:has-text('speaker1') .solo").get_attribute("aria-pressed") == "true"
    assert first.locator(".track:has-text('recording') .mute").get_attribute("aria-pressed") == "true"
    assert first.locator(".track:has-text('speaker2') .decibels").inner_text() == "-6 dB"
    assert first.locator(".track:has-text('speaker2') .level").input_value() == "-6"


def test_invalid_settings_are_reported(visit, recordings):
    page = visit()
    page.click("text=More options")
    page.get_by_label("Overlap").fill("2")
    upload(page, recordings / "call.wav")
    page.click("#start")
    page.wait_for_selector("#told :text('Overlap must be a number from 0 to 0.75, got 2')")
    assert page.is_enabled("#start") and page.is_disabled("#stop") and page.locator(".player").count() == 0
    page.get_by_label("Overlap").fill("0.25")
    page.get_by_label("Shifts").fill("2")
    page.click("#model input")
    page.click("[role=option]:has-text('default-causal')")
    page.click("#start")
    page.wait_for_selector("#told :text('default-causal processes a recording only once. Leave Shifts at 1')")


def test_the_example_takes_one_click(visit, tmp_path):
    page = visit()
    page.click("#example")
    page.wait_for_selector("#told :text('Done')")
    heard, rate = soundfile.read(download(page, ".track:has-text('speaker1') .download", tmp_path))
    assert rate == 16000 and len(heard) == 8 * 16000 and np.abs(heard).max() > 0.05


def test_several_recordings_some_of_which_fail(visit, recordings, tmp_path):
    page = visit()
    choose_tiny(page)
    names = ["call.wav", "notes.wav", "silent.wav", "beyond.flac", "Ünïcode & <b>.flac"]
    upload(page, *(recordings / name for name in names))
    page.click("#start")
    page.wait_for_selector("#told :text('2 of 5 could not be separated')")
    failed = page.locator(".failed").all_inner_texts()
    assert failed[0].startswith("notes.wav: Cannot be read as audio")
    assert "22 minutes long. The limit of this page is 21" in failed[1]
    assert page.locator(".player").count() == 3 and page.locator(".note").count() == 2  # both of the silent recording
    with zipfile.ZipFile(download(page, ".all", tmp_path)) as archive:
        folders = {name.split("/")[0] for name in archive.namelist()}
    assert len(folders) == 3 and {"call", "silent"} < folders


def test_a_missing_recording_is_reported(visit):
    page = visit()
    page.click("#start")
    page.wait_for_selector("#told :text('Choose a recording first')")
    assert page.is_enabled("#start") and page.is_disabled("#stop")


def test_stop_ends_a_job_and_the_next_visitor_gets_a_turn(visit, recordings):
    first, second = visit(), visit()
    upload(first, recordings / "long.flac")
    first.click("#start")
    first.wait_for_function(r"/\d:\d\d of 20:00 done, .* left/.test(document.querySelector('#told').textContent)")
    choose_tiny(second)
    upload(second, recordings / "call.wav")
    second.click("#start")
    second.wait_for_selector("#told :text('Waiting: 1 visitor is ahead of you')")
    assert second.is_disabled("#start")
    first.click("#stop")
    first.wait_for_selector("#told :text('Stopped')")
    second.wait_for_selector("#told :text('Done')")
    assert first.is_enabled("#start") and first.locator(".player").count() == 0


def test_a_lost_connection_is_reported(visit, recordings):
    page = visit()
    upload(page, recordings / "long.flac")
    page.click("#start")
    page.wait_for_function(r"/of 20:00 done/.test(document.querySelector('#told').textContent)")
    page.context.set_offline(True)
    page.wait_for_selector("#lost:text('The connection to the server was lost')")
    assert not page.is_visible("#told")


def test_reloading_the_page_ends_the_job(visit, recordings):
    page, other = visit(), visit()
    upload(page, recordings / "long.flac")
    page.click("#start")
    page.wait_for_function(r"/of 20:00 done/.test(document.querySelector('#told').textContent)")
    page.reload()
    page.wait_for_selector("#left:text('Unfinished recordings were discarded')")
    page.wait_for_selector("#start")
    page.wait_for_timeout(1000)
    assert status(page).strip() == "" and page.locator("#left").count() == 1
    choose_tiny(other)
    separate(other, recordings / "call.wav")  # the abandoned job does not block it
    started = time.monotonic()
    choose_tiny(page)
    separate(page, recordings / "call.wav")
    assert time.monotonic() - started < SECONDS and page.locator("#left").count() == 0
    page.reload()
    page.wait_for_selector("#start")
    assert page.locator("#left").count() == 0


def test_files_of_other_visitors_are_not_accessible(visit, recordings, address):
    page = visit()
    choose_tiny(page)
    separate(page, recordings / "call.wav")
    link = page.get_attribute(".track:has-text('speaker1') .download", "href")
    with urllib.request.urlopen(address + link) as answer:
        assert answer.read(4) == b"RIFF"
    token = link.split("/")[1]
    assert len(token) > 20
    for wrong in (
        link.replace(token, token[::-1]),
        link.replace("speaker1", "..%2f..%2frecording0.wav"),
        link.replace("/0/", "/1/"),
        f"jobs/{'a' * 22}/stems.zip",
        "jobs/..%2f..%2fetc/0/stem/passwd",
        "gradio_api/file=/etc/passwd",
        "separator/nothing.js",
    ):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(address + wrong)
        assert error.value.code in (403, 404)
        error.value.close()


def request_separation(address, path, *arguments):
    """Press Separate with a file that was not uploaded, and return the answer of the server."""
    api = f"{address}gradio_api"
    number = next(
        one["id"]
        for one in json.load(urllib.request.urlopen(f"{address}config"))["dependencies"]
        if len(one["inputs"]) == 9
    )
    file = {"path": path, "meta": {"_type": "gradio.FileData"}, **dict(arguments)}
    body = {"data": [[file], None, "default", "WAV", "same as the recording", 12, 0.25, 1, ""], "fn_index": number}
    body |= {"session_hash": "intruder", "trigger_id": None}
    request = urllib.request.Request(
        f"{api}/queue/join", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=SECONDS).close()
    answer = ""
    with urllib.request.urlopen(f"{api}/queue/data?session_hash=intruder", timeout=SECONDS) as stream:
        for line in stream:
            answer += line.decode()
            if "process_completed" in answer:
                return answer
    raise AssertionError(answer)


@pytest.mark.parametrize("arguments", [[], [("is_stream", True)]])
@pytest.mark.parametrize("name", ["call.wav", "address"])
def test_only_uploads_are_separated(address, recordings, name, arguments):
    path = f"{address}separator/player.js" if name == "address" else str(recordings / name)
    answer = request_separation(address, path, *arguments)
    assert "jobs/" not in answer and "speaker1" not in answer
    assert "Only uploaded files can be separated" in answer


def test_a_live_session_shows_and_keeps_the_stems(visit, tmp_path):
    page = visit(permissions=["microphone"])
    page.get_by_role("tab", name="Live").click()
    page.select_option(".live-model", index=1)  # index 0 is the bundled model
    page.click(".live-start")
    page.wait_for_selector(".live-told:has-text('Live for 0:02')")
    assert page.locator(".live-stem canvas").count() == 2
    brightest = (
        "(canvas) => Math.max(...canvas.getContext('2d').getImageData(360, 0, 40, 80).data.filter((_, i) => i % 4 < 3))"
    )
    assert page.eval_on_selector(".live-stem canvas", brightest) > 60
    page.click(".live-start")
    page.wait_for_selector(".live-page .player")
    heard, rate = soundfile.read(download(page, ".live-page .track:has-text('speaker2') .download", tmp_path))
    assert rate >= 8000 and 1.5 < len(heard) / rate < 60 and np.abs(heard).max() > 0.001


def test_disconnecting_during_an_upload_is_not_an_error(address):
    server = urlsplit(address)
    with socket.create_connection((server.hostname, server.port)) as visitor:
        head = "POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        part = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n'
        visitor.sendall((head + part).encode() + bytes(100_000))
        time.sleep(0.5)
    with urllib.request.urlopen(address) as answer:  # the fixture checks the log at the end
        assert answer.status == 200


@pytest.mark.parametrize(
    ("breaks", "text"),
    [
        ("AudioWorklet.prototype.addModule = async () => { throw new Error('no'); }", "cannot send the sound"),
        ("window.WebSocket = function () { throw new Error('no'); }", "cannot send the sound"),
        (
            "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotFoundError'); }",
            "No microphone was found",
        ),
    ],
)
def test_a_live_session_that_fails_to_start_can_be_repeated(visit, breaks, text):
    page = visit(permissions=["microphone"])
    page.evaluate(
        """() => {
            const ask = navigator.mediaDevices.getUserMedia;
            navigator.mediaDevices.getUserMedia = async (wanted) => (window.microphone = await ask(wanted));
        }"""
    )
    page.evaluate(f"() => {{ {breaks} }}")
    page.get_by_role("tab", name="Live").click()
    page.click(".live-start")
    page.wait_for_selector(f".live-told:has-text('{text}')")
    assert page.is_enabled(".live-start") and page.inner_text(".live-start") == "Start"
    assert not page.evaluate("window.microphone?.getTracks().some((track) => track.readyState === 'live')")


def test_two_clicks_start_one_live_session(visit):
    page = visit(permissions=["microphone"])
    page.evaluate(
        """() => {
            window.asked = [];
            const ask = navigator.mediaDevices.getUserMedia;
            navigator.mediaDevices.getUserMedia = async (wanted) => {
                window.asked.push(wanted);
                await new Promise((done) => setTimeout(done, 1000));
                return ask(wanted);
            };
        }"""
    )
    page.get_by_role("tab", name="Live").click()
    page.select_option(".live-model", index=1)
    page.evaluate("document.querySelector('.live-start').click()")
    assert page.is_disabled(".live-start") and "Waiting for the microphone" in page.inner_text(".live-told")
    page.evaluate("document.querySelector('.live-start').click()")
    page.wait_for_selector(".live-told:has-text('Live for')")
    assert page.evaluate("window.asked.length") == 1 and page.inner_text(".live-start") == "Stop"
    page.click(".live-start")
    page.wait_for_selector(".live-page .player")


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_narrow_screens_and_works_with_the_keyboard(visit, width, scheme):
    page = visit(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.click("#example")
    page.wait_for_selector("#told :text('Done')")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('.player button, .player input, .live button, .live select')].filter(
            (one) => !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.length)).length"""
    )
    assert unnamed == 0
    page.focus(".player .play")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('.player').classList.contains('is-playing')")
    page.keyboard.press("Enter")
    page.wait_for_function("!document.querySelector('.player').classList.contains('is-playing')")
    before = page.evaluate("document.querySelector('.player').separatorPlayer.position")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('.player').separatorPlayer.position") == pytest.approx(
        min(8, before + 5), abs=0.1
    )


def test_a_report_plays_from_a_local_file(browser, recordings, tiny_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(player, "PIECE_SECONDS", 1)
    assert cli.main([str(recordings / "call.wav"), "-m", str(tiny_checkpoint), "-o", str(tmp_path), "--report"]) == 0
    page = browser.new_page()
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "call" / "report.html").as_uri())
    page.click(".player .play")
    page.wait_for_function("document.querySelector('.player .clock').textContent.startsWith('0:01')")
    parts = page.evaluate(
        """async () => {
            const [source] = document.querySelector('.player').separatorPlayer.sources;
            const parts = await Promise.all([source.load(6000, 12000), source.load(0, 8000)]);
            return parts.map((channels) => channels.map((samples) => Array.from(samples)));
        }"""
    )
    samples, _ = soundfile.read(recordings / "call.wav")
    for part, expected in zip(parts, (samples[6000:18000], samples[:8000]), strict=True):
        np.testing.assert_allclose(np.array(part).T, expected, atol=1e-4)
    assert not errors and all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    page.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_all_files_are_removed_when_the_server_ends(tmp_path, number):
    port = free_port()
    command = [sys.executable, "-m", "separator.web", "--port", str(port), "--no-browser"]
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        text=True,
    )
    assert server.stdout.readline().startswith("open http")
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("separator-web-")
    server.send_signal(number)
    output, _ = server.communicate(timeout=SECONDS)
    assert (server.returncode, output) == (0, "") and not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_during_the_start_ends_the_server(tmp_path, number):
    # Uvicorn calls this method when the coroutine of the server exists but does not run yet.
    script = f"""
import signal, sys, uvicorn
from separator.web.__main__ import main

def interrupted(config, get=uvicorn.Config.get_loop_factory):
    signal.raise_signal({int(number)})
    return get(config)

uvicorn.Config.get_loop_factory = interrupted
sys.argv[1:] = ["--port", "{free_port()}", "--no-browser"]
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0 and re.fullmatch(r"open http\S+ \(Ctrl-C stops the server\)\n", done.stdout)
    assert not list(tmp_path.iterdir())


def test_the_command_reports_errors(tmp_path):
    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "separator.web", *arguments], capture_output=True, text=True, timeout=SECONDS
        )
        return done.returncode, done.stderr

    code, output = run("-m", str(tmp_path / "nothing.safetensors"))
    assert code == 2 and output.startswith("error: ") and "no such file" in output and "Traceback" not in output
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, output = run("--port", str(taken.getsockname()[1]), "--no-browser")
    assert code == 2 and "another program uses it" in output and "Traceback" not in output
