"""The server of the page. It answers only its own pages, and its pages load nothing from other hosts."""

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

# A browser that follows this policy sends requests only to this server.
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
# This route of Gradio stores what is sent to it, and nothing removes it later. So it is blocked.
BLOCKED_ROUTES = ("/gradio_api/process_recording",)
NO_STORE = {"Cache-Control": "no-store"}
PAGE_SCRIPT = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
SCRIPTS = {"player": player.SCRIPT, "live": live_socket.SCRIPT, "page": PAGE_SCRIPT}


def add_routes(app: FastAPI, site: Site) -> None:
    """Add the routes for scripts, stems, sound and downloads."""

    def find(token: str, number: int = 0) -> results.PageEntry:
        folder, entries = site.store.find(token), site.entries_of(token)
        if folder is None or not 0 <= number < len(entries):
            raise HTTPException(404, "This file no longer exists. Files are deleted after an hour.")
        site.store.touch(folder)
        return entries[number]

    def existing(path: Path | None) -> Path:
        if path is None or not path.is_file():
            raise HTTPException(404, "This recording has no such stem.")
        return path

    @app.get("/separator/{name}.js")
    def script(name: str) -> Response:
        if name not in SCRIPTS:
            raise HTTPException(404)
        return Response(SCRIPTS[name], media_type="text/javascript", headers={"Cache-Control": "no-cache"})

    @app.get("/jobs/{token}/{number}/stem/{name}")
    def stem(token: str, number: int, name: str) -> FileResponse:
        entry = find(token, number)
        path = existing(entry.stems.get(name))
        return FileResponse(path, filename=f"{results.safe_name(entry.name)}_{path.name}", headers=NO_STORE)

    @app.get("/jobs/{token}/{number}/sound/{name}")
    def sound(token: str, number: int, name: str, start: int, count: int) -> Response:
        path = existing(find(token, number).file(name))
        return Response(results.sound(path, start, count), media_type="application/octet-stream", headers=NO_STORE)

    @app.get("/jobs/{token}/stems.zip")
    def everything(token: str) -> FileResponse:
        find(token)
        entries = [entry for entry in site.entries_of(token) if entry.stems]
        # The name has the number of entries, because their number grows while a job runs.
        path = site.store.root / token / f"stems{len(entries)}.zip"
        if not path.exists():
            temporary = path.with_suffix(f".{secrets.token_hex(4)}")
            results.write_zip(entries, temporary)
            temporary.rename(path)
        return FileResponse(path, filename="stems.zip", headers=NO_STORE)


class OriginGuard:
    """ASGI middleware that accepts only requests from pages of this server.

    Its security headers keep browsers from loading anything from other hosts. A client that disconnects during an
    upload is not an error.

    Args:
        app: the application.
        hosts: host names by which the server may be called. Empty for any. This blocks pages of another host whose
            name was made to resolve to this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "lifespan" and self._is_foreign(scope):
            text = "Requests from other sites are refused."
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
        host = urlsplit(f"//{headers.get('host', '')}").hostname
        if self.hosts and host not in self.hosts:
            return True
        if scope.get("method", "GET") not in ("GET", "HEAD") and headers.get("sec-fetch-site", "") == "cross-site":
            return True
        return scope["path"].rstrip("/") in BLOCKED_ROUTES


def make_app(site: Site, hosts: Collection[str] = ()) -> FastAPI:
    """Return the application without the Gradio page. For `hosts`, see `OriginGuard`."""
    app = FastAPI(title="separator", docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(OriginGuard, hosts=hosts)
    add_routes(app, site)
    live_socket.add_route(app, site)
    return app
