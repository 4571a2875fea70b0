"""The microphone of a visitor through a causal model, while it speaks.

The browser sends samples through a WebSocket, and is sent what its stems look like; the stems themselves wait in the
visitor's folder.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from separator import lanes
from separator.errors import ConfigError, SeparatorError
from separator.separation import Separator
from separator.sinks import WavFiles
from separator.web import results

if TYPE_CHECKING:
    from separator.web.site import Site

SCRIPT = (Path(__file__).parent / "live.js").read_text(encoding="utf-8")
# Visitors that are live at the same time.
MOST_LIVE = 2
# A column of a moving spectrogram.
COLUMN_SECONDS = 0.04
RATES = (8000, 192_000)
# The loudest that a column shows is this, and RANGE_DB below it is black.
LOUDEST_DB = 35.0
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
        self._columns = lanes.Columns(len(self.sources), sample_rate, round(COLUMN_SECONDS * sample_rate))
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
            np.concatenate([_bytes(peaks[:, None]), _bytes(bands - LOUDEST_DB)], axis=1).tobytes()
            for peaks, bands in self._columns.push(stems)
        )


def _bytes(decibels: np.ndarray) -> np.ndarray:
    """0 dB is 255."""
    return np.clip(255 * (1 + decibels / lanes.RANGE_DB), 0, 255).astype(np.uint8)


def add_route(app: FastAPI, site: Site) -> None:
    """The WebSocket /live."""
    room = threading.Semaphore(MOST_LIVE)

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
        except (WebSocketDisconnect, asyncio.CancelledError):
            site.store.discard(folder)
        except (SeparatorError, KeyError, ValueError, TypeError) as error:
            site.store.discard(folder)
            await _refuse(socket, str(error) if isinstance(error, SeparatorError) else "The browser sent no sound.")
        finally:
            room.release()


async def _talk(socket: WebSocket, site: Site, folder: Path) -> None:
    asked = json.loads(await socket.receive_text())
    rate, chosen = asked["rate"], site.choice(asked["model"])
    if not chosen.can_stream or not isinstance(rate, int) or not RATES[0] <= rate <= RATES[1]:
        raise ConfigError("There is no such model for live separation.")
    separator = await asyncio.to_thread(Separator, chosen.model, site.worker.device)
    live = Live(separator, folder, rate)
    try:
        await socket.send_text(
            json.dumps(
                {"sources": list(live.sources), "palette": palette(), "bands": lanes.BANDS, "column": COLUMN_SECONDS}
            )
        )
        told = ""
        while True:
            message = await socket.receive()
            if message.get("bytes"):
                samples = np.frombuffer(message["bytes"], "<f4")
                if samples.size > 10 * rate or not np.isfinite(samples).all():
                    raise ConfigError("The browser sent what is no sound.")
                if shown := await asyncio.to_thread(live.push, samples):
                    await socket.send_bytes(shown)
                if live.seconds > site.worker.longest_seconds:
                    told = "It was ended here: this page takes no more at a time."
                    break
            elif message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect
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


async def _refuse(socket: WebSocket, text: str) -> None:
    try:
        await socket.send_text(json.dumps({"error": text}))
        await socket.close()
    except (RuntimeError, WebSocketDisconnect):  # it is gone already
        pass


def palette() -> str:
    """256 colours, three bytes each."""
    return base64.b64encode(lanes.palette().tobytes()).decode("ascii")


def markup(models: Sequence[str]) -> str:
    """The tab."""
    options = "".join(f"<option>{name}</option>" for name in models)
    return (
        '<div class="live"><p>Speak, and see the voices apart while they are spoken. Nothing is played back meanwhile, '
        "so that the microphone does not hear it; it is there to hear and to save afterwards.</p>"
        f'<div class="live-controls"><label>Model <select class="live-model">{options}</select></label>'
        '<button type="button" class="live-start">Start</button></div>'
        '<p class="live-told" role="status"></p><div class="live-stems"></div>'
        '<div class="live-page results"></div></div>'
    )
