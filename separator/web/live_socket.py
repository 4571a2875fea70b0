"""Live separation of a visitor's microphone with a causal model.

The browser sends samples through a WebSocket. It gets back levels and spectrogram columns of the stems. The stems
themselves are written to the visitor's folder.
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
# Maximum number of live sessions at a time.
MAX_LIVE = 2
# A session ends if the browser has sent nothing for this long.
RECEIVE_TIMEOUT_SECONDS = 30.0
# Time between columns of the spectrogram.
COLUMN_SECONDS = 0.04
# Range of sample rates, in Hz.
RATES = (8000, 192_000)
# Level of the brightest point. Black is RANGE_DB below it.
MAX_DB = 35.0
SUBTYPE = "PCM_16"


class Live:
    """One live session: samples in, columns out. The recording and the stems go to files in a folder."""

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
        """Add samples `[time]`. Return new columns as bytes: for each column and stem, the level, then the bands."""
        self.seconds += len(samples) / self.sample_rate
        self._mixture.write(samples[None, None])
        return self._show(self._stream.push(samples))

    def end(self) -> None:
        """Write the last samples of the stems, and close the files."""
        if self.seconds:
            self._show(self._stream.flush())
        self.close()

    def close(self) -> None:
        """Close the files."""
        self._stems.close()
        self._mixture.close()

    def _show(self, stems: np.ndarray) -> bytes:
        self._stems.write(stems[:, None])
        return b"".join(
            np.concatenate([_bytes(peaks[:, None]), _bytes(bands - MAX_DB)], axis=1).tobytes()
            for peaks, bands in self._columns.push(stems)
        )


def _bytes(decibels: np.ndarray) -> np.ndarray:
    """Map decibels to bytes. 0 dB is 255."""
    return np.clip(255 * (1 + decibels / track_picture.RANGE_DB), 0, 255).astype(np.uint8)


def add_route(app: FastAPI, site: Site) -> None:
    """Add the WebSocket /live."""
    free_sessions = threading.Semaphore(MAX_LIVE)

    @app.websocket("/live")
    async def live(socket: WebSocket) -> None:
        if urlsplit(socket.headers.get("origin", "")).netloc not in ("", socket.headers.get("host")):
            await socket.close()  # opened by a page of another site in a visitor's browser
            return
        await socket.accept()
        if not free_sessions.acquire(blocking=False):
            await _refuse(socket, "All live sessions are in use. Please try again in a few minutes.")
            return
        folder = site.store.new()
        try:
            await _serve_session(socket, site, folder)
        except (Exception, asyncio.CancelledError) as error:
            # Not in a thread: if the server stops while this waits for a thread, the folder would stay.
            site.store.discard(folder)
            if not isinstance(error, (WebSocketDisconnect, asyncio.CancelledError)):
                await _refuse(socket, _visitor_text(error, folder))
        finally:
            free_sessions.release()


async def _serve_session(socket: WebSocket, site: Site, folder: Path) -> None:
    request = json.loads((await _receive(socket))["text"])
    rate, chosen = request["rate"], site.choice(request["model"])
    if not chosen.can_stream or not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
        raise ConfigError("This model or sample rate cannot be used for live separation.")
    separator = await asyncio.to_thread(Separator, chosen.model, site.worker.device)
    live = await asyncio.to_thread(Live, separator, folder, rate)
    try:
        colours = await asyncio.to_thread(palette)
        description = {
            "sources": list(live.sources),
            "palette": colours,
            "bands": track_picture.BANDS,
            "column": COLUMN_SECONDS,
        }
        await socket.send_text(json.dumps(description))
        remark = ""
        while True:
            message = await _receive(socket)
            site.store.touch(folder)  # a session may last longer than files are kept
            if message.get("bytes"):
                samples = np.frombuffer(message["bytes"], "<f4")
                if samples.size > 10 * rate or not np.isfinite(samples).all():
                    raise ConfigError("The browser sent invalid audio data.")
                if columns := await asyncio.to_thread(live.push, samples):
                    await socket.send_bytes(columns)
                if live.seconds > site.worker.max_seconds:
                    remark = "The session ended here because it reached the time limit of this page."
                    break
            else:
                break
        await asyncio.to_thread(live.end)
        if not live.seconds:
            raise ConfigError("The microphone sent no sound.")
        entry = await asyncio.to_thread(results.make_live_entry, live.recording, live.paths, rate)
        site.register(folder).append(entry)
        await socket.send_text(json.dumps({"page": entry.page + results.save_all(folder), "told": remark}))
        await socket.close()
    finally:
        live.close()


async def _receive(socket: WebSocket) -> MutableMapping[str, Any]:
    try:
        message = await asyncio.wait_for(socket.receive(), RECEIVE_TIMEOUT_SECONDS)
    except asyncio.TimeoutError as error:
        raise ConfigError("The browser stopped sending sound. The recording was discarded.") from error
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect
    return message


def _visitor_text(error: Exception, folder: Path) -> str:
    """Return the text of an error without paths of this machine."""
    if isinstance(error, SeparatorError) and str(folder) not in str(error):
        return str(error)
    if isinstance(error, (KeyError, ValueError, TypeError)) and not isinstance(error, SeparatorError):
        return "The browser sent an invalid message."
    LOG.error("a live session failed", exc_info=error)
    return "Internal error. The recording was discarded."


async def _refuse(socket: WebSocket, text: str) -> None:
    try:
        await socket.send_text(json.dumps({"error": text}))
        await socket.close()
    except (RuntimeError, WebSocketDisconnect):  # the browser has disconnected already
        pass


def palette() -> str:
    """Return 256 colours of three bytes each, in base64."""
    return base64.b64encode(track_picture.palette().tobytes()).decode("ascii")


def markup(models: Sequence[str]) -> str:
    """Return the HTML of the Live tab."""
    options = "".join(f"<option>{html.escape(name)}</option>" for name in models)
    return (
        '<div class="live"><p>Speak and watch the separated voices live. Nothing is played back meanwhile, so that the '
        "microphone does not pick it up. You can play and save the stems afterwards.</p>"
        f'<div class="live-controls"><label>Model <select class="live-model">{options}</select></label>'
        '<button type="button" class="live-start">Start</button></div>'
        '<p class="live-told"><span class="live-said" role="status"></span>'
        '<span class="live-clock" role="timer"></span></p>'
        '<div class="live-stems"></div>'
        '<div class="live-page results"></div></div>'
    )
