"""`python -m separator.web`: the page, on this machine."""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import webbrowser
from pathlib import Path

from separator.errors import ConfigError, SeparatorError, check_number, reason
from separator.interrupts import ENDING, Terminated, handled, terminable
from separator.web.store import Store

# What a browser on this machine calls it.
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.web",
        description="A page in the browser where recordings are separated, seen and heard.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1, for this machine only)")
    add("--port", type=int, default=7860, help="(default: 7860)")
    add("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
    add("-m", "--model", action="append", default=[], type=Path, metavar="PATH", help="a checkpoint to choose, too")
    add("--max-megabytes", type=float, default=2000, metavar="MB", help="of an upload (default: 2000)")
    add("--max-minutes", type=float, default=180, metavar="MIN", help="of a recording (default: 180)")
    add("--no-browser", action="store_true", help="only serve the page; do not open it")
    options = parser.parse_args()
    try:
        with terminable():
            serve(options)
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated):  # that is how it is ended
        pass
    return 0


def serve(options: argparse.Namespace) -> None:
    """Serves the page until it is interrupted; what visitors left is removed then.

    Raises:
        ConfigError: if Gradio is missing, the address cannot be listened at, or a limit is none.
        CheckpointError: for a checkpoint that cannot be used.
    """
    check_number("--max-megabytes", options.max_megabytes, 1)
    check_number("--max-minutes", options.max_minutes, 0.1)
    listening = _listen(options.host, options.port)
    from separator.devices import find_device
    from separator.web.models import choices

    find_device(options.device)
    models = choices(options.model)
    with contextlib.closing(Store()) as store:
        # Before Gradio is imported, which is when it looks.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(store.uploads)}
        try:
            import gradio
            import uvicorn
        except ImportError as error:
            raise ConfigError("the page needs Gradio: pip install 'separator[web]'") from error
        from separator.html import player
        from separator.web.layout import HEAD, STYLE, make_page, theme
        from separator.web.server import make_app
        from separator.web.site import Site

        site = Site.open(store, options.device, 60 * options.max_minutes, models)
        app = gradio.mount_gradio_app(
            make_app(site, LOCAL_NAMES if options.host in LOCAL_NAMES else ()),
            make_page(site, options.max_megabytes),
            path="",
            max_file_size=int(options.max_megabytes * 2**20),
            footer_links=[],
            run_history=False,
            theme=theme(),
            css=player.STYLE + STYLE,
            head=HEAD,
            show_error=False,
        )
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        # Whoever has the page open in the end waits for what will not come: that is no error.
        logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
        # From before the server starts, since an exception in the middle of that would tear it.
        with contextlib.closing(site.worker), handled((signal.SIGINT, *ENDING), server.handle_exit):
            address = f"http://{_authority(options.host, options.port)}/"
            print(f"open {address} (Ctrl-C ends it)", flush=True)
            if not options.no_browser:
                threading.Timer(1.0, webbrowser.open, [address]).start()
            server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket at an address, before anything else is done."""
    try:
        families = [info[0] for info in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)]
        family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        advice = "it is taken by another program; choose one with --port" if taken else "choose with --host and --port"
        raise ConfigError(f"{_authority(host, port)} cannot be listened at ({reason(error)}): {advice}") from error


def _authority(host: str, port: int) -> str:
    """Host and port as in an address; what has colons of its own stands in brackets (RFC 3986)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
