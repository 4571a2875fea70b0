"""Make the pictures of the web page in docs/images: python docs/screenshots.py [--only STATE]"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
from playwright.sync_api import Browser, Page, sync_playwright

from separator.data.example import SAMPLE_RATE, make_example

HERE = Path(__file__).parent / "images"
WIDE, PHONE = {"width": 1180, "height": 860}, {"width": 390, "height": 844}


@contextmanager
def served() -> Iterator[str]:
    """The address of a page of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "separator.web", "--port", str(port), "--no-browser"])
    url = f"http://127.0.0.1:{port}/"
    try:
        while True:
            try:
                urllib.request.urlopen(url).close()
                break
            except OSError:
                time.sleep(0.2)
        yield url
    finally:
        server.terminate()
        server.wait()


def opened(browser: Browser, url: str, **settings: object) -> Page:
    """The page as a new visitor has it."""
    page = browser.new_context(permissions=["microphone"], **settings).new_page()
    page.goto(url)
    page.wait_for_selector("#start")
    page.wait_for_timeout(800)
    return page


def drop(page: Page, *paths: Path) -> None:
    page.set_input_files("#files input[type=file]", [str(path) for path in paths])
    page.wait_for_selector(f"#files .file-preview :text('{paths[0].stem}')")
    page.click("#start")


def start(browser: Browser, url: str, folder: Path) -> Page:
    return opened(browser, url, viewport=WIDE)


def options(browser: Browser, url: str, folder: Path) -> Page:
    page = opened(browser, url, viewport=WIDE, color_scheme="dark")
    page.click("text=More options")
    page.click("text=Record with the microphone")
    page.wait_for_timeout(800)
    return page


def working(browser: Browser, url: str, folder: Path) -> Page:
    page = opened(browser, url, viewport=WIDE)
    drop(page, folder / "meeting.flac")
    page.wait_for_function(r"/\d:\d\d of 20:00 done, .* left/.test(document.querySelector('#told').textContent)")
    return page


def waiting(browser: Browser, url: str, folder: Path) -> Page:
    drop(opened(browser, url), folder / "meeting.flac")
    page = opened(browser, url, viewport=WIDE, color_scheme="dark")
    drop(page, folder / "call.wav")
    page.wait_for_selector("#told :text('Waiting')")
    return page


def result(browser: Browser, url: str, folder: Path, **settings: object) -> Page:
    page = opened(browser, url, **{"viewport": WIDE} | settings)
    drop(page, folder / "call.wav")
    page.wait_for_selector("#told :text('Done')")
    page.wait_for_timeout(500)
    page.click(".player .play")
    page.wait_for_timeout(3000)
    page.click(".player .play")
    return page


def phone(browser: Browser, url: str, folder: Path) -> Page:
    return result(browser, url, folder, viewport=PHONE, color_scheme="dark")


def wrong(browser: Browser, url: str, folder: Path) -> Page:
    page = opened(browser, url, viewport=WIDE)
    drop(page, folder / "notes.wav", folder / "silent.wav")
    page.wait_for_selector("#told :text('could not be separated')")
    page.wait_for_timeout(500)
    return page


def live(browser: Browser, url: str, folder: Path) -> Page:
    page = opened(browser, url, viewport=WIDE, color_scheme="dark")
    page.get_by_role("tab", name="Live").click()
    page.click(".live-start")
    page.wait_for_timeout(16_000)
    return page


STATES = (start, options, working, waiting, result, phone, wrong, live)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[state.__name__ for state in STATES])
    only = parser.parse_args().only
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as name, served() as url, sync_playwright() as driver:
        folder = Path(name)
        example = make_example().mixture.numpy()
        soundfile.write(folder / "call.wav", example, SAMPLE_RATE)
        soundfile.write(folder / "meeting.flac", np.tile(example, 150), SAMPLE_RATE)
        soundfile.write(folder / "silent.wav", 0 * example, SAMPLE_RATE)
        (folder / "notes.wav").write_text("no audio")
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        arguments += [f"--use-file-for-fake-audio-capture={folder / 'call.wav'}"]
        for state in STATES:
            if only in (None, state.__name__):
                browser = driver.chromium.launch(executable_path=chromium, args=arguments)
                state(browser, url, folder).screenshot(path=HERE / f"{state.__name__}.png", full_page=True)
                browser.close()


if __name__ == "__main__":
    main()
