"""The server: the page, what it asks for, and nothing from anywhere else."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Response
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from separator.html import player
from separator.web import live_socket, results
from separator.web.site import Site

# A browser that keeps to it asks no other host for anything.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self' data: blob:; frame-ancestors 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Of Gradio's routes, one that keeps what is sent to it where nobody looks after it.
CLOSED = ("/gradio_api/process_recording",)
NEVER = {"Cache-Control": "no-store"}
PAGE_SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
SCRIPTS = {"player": player.SCRIPT, "live": live_socket.SCRIPT, "page": PAGE_SCRIPT}


def add_routes(app: FastAPI, site: Site) -> None:
    """What the page asks for beside itself."""

    def find(token: str, number: int = 0) -> results.Shelf:
        folder, shelves = site.store.find(token), site.shelved(token)
        if folder is None or not 0 <= number < len(shelves):
            raise HTTPException(404, "It is not there any more: files are kept for an hour.")
        site.store.touch(folder)
        return shelves[number]

    def there(path: Path | None) -> Path:
        if path is None or not path.is_file():
            raise HTTPException(404, "There is no such stem.")
        return path

    @app.get("/separator/{name}.js")
    def script(name: str) -> Response:
        if name not in SCRIPTS:
            raise HTTPException(404)
        return Response(SCRIPTS[name], media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    @app.get("/jobs/{token}/{number}/stem/{name}")
    def stem(token: str, number: int, name: str) -> FileResponse:
        shelf = find(token, number)
        path = there(shelf.stems.get(name))
        return FileResponse(path, filename=f"{results.safe_name(shelf.name)}_{path.name}", headers=NEVER)

    @app.get("/jobs/{token}/{number}/sound/{name}")
    def sound(token: str, number: int, name: str, start: int, count: int) -> Response:
        path = there(find(token, number).file(name))
        return Response(results.sound(path, start, count), media_type="application/octet-stream", headers=NEVER)

    @app.get("/jobs/{token}/stems.zip")
    def everything(token: str) -> FileResponse:
        find(token)
        shelves = [shelf for shelf in site.shelved(token) if shelf.stems]
        # Named by their number: while a job goes on, there are more and more.
        path = site.store.root / token / f"stems{len(shelves)}.zip"
        if not path.exists():
            beside = path.with_suffix(f".{secrets.token_hex(4)}")
            results.write_zip(shelves, beside)
            beside.rename(path)
        return FileResponse(path, filename="stems.zip", headers=NEVER)


class KeepToItself:
    """Around an ASGI application: only pages of its own talk to it, and only with it.

    A browser asks no other host, sends nothing for pages of other hosts, and whoever leaves while sending is no error.

    Args:
        hosts: by which it may be called; empty for any. A page of another host that its name server lets point
            to this machine is of another name.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "lifespan" and self._is_foreign(scope):
            text = "This page is for its own visitors."
            refusal: ASGIApp = PlainTextResponse(text, 403) if scope["type"] == "http" else WebSocketClose()
            await refusal(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        with contextlib.suppress(ClientDisconnect):
            await self.app(scope, receive, send_with_headers)

    def _is_foreign(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        called = urlsplit(f"//{headers.get('host', '')}").hostname
        if self.hosts and called not in self.hosts:
            return True
        if scope.get("method", "GET") not in ("GET", "HEAD") and headers.get("sec-fetch-site", "") == "cross-site":
            return True
        return scope["path"].rstrip("/") in CLOSED


def make_app(site: Site, hosts: Collection[str] = ()) -> FastAPI:
    """The application without its page, which sends only what is its own; `hosts` as of `KeepToItself`."""
    app = FastAPI(title="separator", docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(KeepToItself, hosts=hosts)
    add_routes(app, site)
    live_socket.add_route(app, site)
    return app
