"""Signal handlers. SIGTERM and SIGHUP become exceptions, in the same way as Ctrl-C, or call a given function."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# SIGINT is not here, because Python itself turns it into an exception. Windows has no SIGHUP.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Terminated(BaseException):
    """The process received SIGTERM, or SIGHUP because a terminal was closed or a connection was lost.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number


@contextlib.contextmanager
def handled(numbers: Iterable[signal.Signals], handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Call `handle(number, frame)` for each of these signals while the context is open.

    Signals that the process ignores, for example because of nohup, stay ignored. Only the main thread can set signal
    handlers. In another thread this does nothing.
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
    """Raise `Terminated` at SIGTERM and SIGHUP while the context is open, so that temporary files are removed."""

    def handle(number: int, _: Any) -> None:
        raise Terminated(number)

    return handled(ENDING, handle)
