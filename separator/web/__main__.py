"""Command line of the web page, which runs on this machine (`python -m separator.web`)."""

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

# Host names by which a browser on this machine reaches the server.
LOCAL_NAMES = ("127.0.0.1", "localhost", "::1")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m separator.web",
        description="Serve a web page that separates recordings, shows the stems and plays them.",
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine only)")
    add("--port", type=int, default=7860, help="port to listen on (default: 7860)")
    add("-d", "--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)")
    add(
        "-m",
        "--model",
        action="append",
        default=[],
        type=Path,
        metavar="PATH",
        help="checkpoint to offer in addition to the named models; may be repeated",
    )
    add("--max-megabytes", type=float, default=2000, metavar="MB", help="maximum size of an upload (default: 2000)")
    add("--max-minutes", type=float, default=180, metavar="MIN", help="maximum length of a recording (default: 180)")
    add("--no-browser", action="store_true", help="do not open the page in a browser")
    options = parser.parse_args()
    try:
        with terminable():
            serve(options)
    except SeparatorError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, Terminated):  # the usual way to stop the server
        pass
    return 0


def serve(options: argparse.Namespace) -> None:
    """Serve the page until it is interrupted. Then remove all files of visitors.

    Raises:
        ConfigError: if Gradio is missing, the address cannot be used, or a limit is out of range.
        CheckpointError: if a checkpoint cannot be used.
    """
    check_number("--max-megabytes", options.max_megabytes, 1)
    check_number("--max-minutes", options.max_minutes, 0.1)
    listening = _listen(options.host, options.port)
    from separator.devices import find_device
    from separator.web.models import choices

    find_device(options.device)
    models = choices(options.model)
    with contextlib.closing(Store()) as store:
        # Gradio reads these variables when it is imported.
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(store.uploads)}
        try:
            import gradio
            import uvicorn
        except ImportError as error:
            raise ConfigError("the page needs Gradio; install it with: pip install 'separator[web]'") from error
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
        # An open page still waits for updates at shutdown. Uvicorn would log that as an error.
        logging.getLogger("uvicorn.error").addFilter(lambda record: not server.should_exit)
        # Signals are handled from before the start: an exception during the start would leave it half done.
        with contextlib.closing(site.worker), handled((signal.SIGINT, *ENDING), server.handle_exit):
            address = f"http://{_authority(options.host, options.port)}/"
            print(f"open {address} (Ctrl-C stops the server)", flush=True)
            if not options.no_browser:
                threading.Timer(1.0, webbrowser.open, [address]).start()
            server.run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address. It is bound first, so that a wrong address fails at once."""
    try:
        families = [info[0] for info in socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)]
        family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        advice = "another program uses it; choose another --port" if is_taken else "choose another --host or --port"
        raise ConfigError(f"{_authority(host, port)} cannot be listened on ({reason(error)}); {advice}") from error


def _authority(host: str, port: int) -> str:
    """Format host and port for a URL. A host with colons is put in brackets (RFC 3986)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


if __name__ == "__main__":
    sys.exit(main())
