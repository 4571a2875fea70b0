"""What is done at SIGTERM and SIGHUP: an exception, as Python makes one of Ctrl-C, or what else is asked for."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# Besides SIGINT, which Python makes an exception itself. Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """SIGTERM came, or SIGHUP: a terminal was closed, or a connection lost."""

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def handled(numbers: Iterable[signal.Signals], handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls `handle(number, frame)` for each of these signals, but for those that are ignored, as by nohup.

    Only the main thread can ask for signals; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def terminable() -> contextlib.AbstractContextManager[None]:
    """SIGTERM and SIGHUP end what runs as Ctrl-C does, so that nothing half-written stays."""

    def handle(number: int, _: Any) -> None:
        raise Terminated(number)

    return handled(ENDING, handle)
