"""The microphone of a visitor through a causal model, while it speaks.

The browser sends samples through a WebSocket, and is sent what its stems look like; the stems themselves wait in the
visitor's folder.
"""

from __future__ import annotations

import asyncio
import base64
import html
import json
import logging
import threading
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from separator.errors import ConfigError, SeparatorError
from separator.html import track_picture
from separator.inference.separation import Separator
from separator.streaming.audio_outputs import WavFiles
from separator.web import results
from separator.web.site import Site

SCRIPT = (Path(__file__).parent / "live.js").read_text(encoding="utf-8")
LOG = logging.getLogger(__name__)
# Visitors that are live at the same time.
MAX_LIVE = 2
# A browser that sends nothing for so long has left.
SILENT_SECONDS = 30.0
# A column of a moving spectrogram.
COLUMN_SECONDS = 0.04
RATES = (8000, 192_000)
# The loudest that a column shows is this, and RANGE_DB below it is black.
MAX_DB = 35.0
SUBTYPE = "PCM_16"


class Live:
    """One visitor's stream: samples in, columns out, and files in a folder."""

    def __init__(self, separator: Separator, folder: Path, sample_rate: int) -> None:
        self.sources, self.sample_rate = separator.sources, sample_rate
        self._stream = separator.stream(sample_rate)
        self.paths = {name: folder / f"{name}.wav" for name in self.sources}
        self.recording = folder / "recording.wav"
        self._stems = WavFiles(self.paths, sample_rate, 1, SUBTYPE)
        self._mixture = WavFiles({"recording": self.recording}, sample_rate, 1, SUBTYPE)
        self._columns = track_picture.Columns(len(self.sources), sample_rate, round(COLUMN_SECONDS * sample_rate))
        self.seconds = 0.0

    def push(self, samples: np.ndarray) -> bytes:
        """The next samples `[time]` -> what there is to show: of each column the stems' levels and bands, in bytes."""
        self.seconds += len(samples) / self.sample_rate
        self._mixture.write(samples[None, None])
        return self._show(self._stream.push(samples))

    def end(self) -> None:
        """Writes what is left, and closes the files."""
        if self.seconds:
            self._show(self._stream.flush())
        self.close()

    def close(self) -> None:
        """Closes the files."""
        self._stems.close()
        self._mixture.close()

    def _show(self, stems: np.ndarray) -> bytes:
        self._stems.write(stems[:, None])
        return b"".join(
            np.concatenate([_bytes(peaks[:, None]), _bytes(bands - MAX_DB)], axis=1).tobytes()
            for peaks, bands in self._columns.push(stems)
        )


def _bytes(decibels: np.ndarray) -> np.ndarray:
    """0 dB is 255."""
    return np.clip(255 * (1 + decibels / track_picture.RANGE_DB), 0, 255).astype(np.uint8)


def add_route(app: FastAPI, site: Site) -> None:
    """The WebSocket /live."""
    room = threading.Semaphore(MAX_LIVE)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        if urlsplit(socket.headers.get("origin", "")).netloc not in ("", socket.headers.get("host")):
            await socket.close()  # of another site, in a visitor's browser
            return
        await socket.accept()
        if not room.acquire(blocking=False):
            await _refuse(socket, "Others are live already. Please try again in some minutes.")
            return
        folder = site.store.new()
        try:
            await _talk(socket, site, folder)
        except (Exception, asyncio.CancelledError) as error:
            # Not in a thread: cancelled while it waits for one, as when the page is ended, it would leave the folder.
            site.store.discard(folder)
            if not isinstance(error, (WebSocketDisconnect, asyncio.CancelledError)):
                await _refuse(socket, _in_words(error, folder))
        finally:
            room.release()


async def _talk(socket: WebSocket, site: Site, folder: Path) -> None:
    asked = json.loads((await _receive(socket))["text"])
    rate, chosen = asked["rate"], site.choice(asked["model"])
    if not chosen.can_stream or not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
        raise ConfigError("There is no such model for live separation.")
    separator = await asyncio.to_thread(Separator, chosen.model, site.worker.device)
    live = await asyncio.to_thread(Live, separator, folder, rate)
    try:
        colours = await asyncio.to_thread(palette)
        shown = {
            "sources": list(live.sources),
            "palette": colours,
            "bands": track_picture.BANDS,
            "column": COLUMN_SECONDS,
        }
        await socket.send_text(json.dumps(shown))
        told = ""
        while True:
            message = await _receive(socket)
            site.store.touch(folder)  # it may go on for longer than what was left is kept
            if message.get("bytes"):
                samples = np.frombuffer(message["bytes"], "<f4")
                if samples.size > 10 * rate or not np.isfinite(samples).all():
                    raise ConfigError("The browser sent what is no sound.")
                if columns := await asyncio.to_thread(live.push, samples):
                    await socket.send_bytes(columns)
                if live.seconds > site.worker.longest_seconds:
                    told = "It was ended here: this page takes no more at a time."
                    break
            else:
                break
        await asyncio.to_thread(live.end)
        if not live.seconds:
            raise ConfigError("Nothing came from the microphone.")
        shelf = await asyncio.to_thread(results.shelve_live, live.recording, live.paths, rate)
        site.begin(folder).append(shelf)
        await socket.send_text(json.dumps({"page": shelf.page + results.save_all(folder), "told": told}))
        await socket.close()
    finally:
        live.close()


async def _receive(socket: WebSocket) -> MutableMapping[str, Any]:
    try:
        message = await asyncio.wait_for(socket.receive(), SILENT_SECONDS)
    except asyncio.TimeoutError as error:
        raise ConfigError("No sound came any more. What was said is not kept.") from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    return message


def _in_words(error: Exception, folder: Path) -> str:
    if isinstance(error, SeparatorError) and str(folder) not in str(error):
        return str(error)
    if isinstance(error, (KeyError, ValueError, TypeError)) and not isinstance(error, SeparatorError):
        return "The browser sent no sound."
    LOG.error("a live visit was left", exc_info=error)
    return "Something went wrong that should not have. What was said is not kept."


async def _refuse(socket: WebSocket, text: str) -> None:
    try:
        await socket.send_text(json.dumps({"error": text}))
        await socket.close()
    except (RuntimeError, WebSocketDisconnect):  # it is gone already
        pass


def palette() -> str:
    """256 colours, three bytes each."""
    return base64.b64encode(track_picture.palette().tobytes()).decode("ascii")


def markup(models: Sequence[str]) -> str:
    """The tab."""
    options = "".join(f"<option>{html.escape(name)}</option>" for name in models)
    return (
        '<div class="live"><p>Speak, and see the voices apart while they are spoken. Nothing is played back meanwhile, '
        "so that the microphone does not hear it; it is there to hear and to save afterwards.</p>"
        f'<div class="live-controls"><label>Model <select class="live-model">{options}</select></label>'
        '<button type="button" class="live-start">Start</button></div>'
        '<p class="live-told"><span class="live-said" role="status"></span>'
        '<span class="live-clock" role="timer"></span></p>'
        '<div class="live-stems"></div>'
        '<div class="live-page results"></div></div>'
    )
