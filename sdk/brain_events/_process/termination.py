"""SIGTERM: deliver the remaining events before the signal ends the process, since no exit hook runs then."""

import signal
import threading
from collections.abc import Callable
from types import FrameType

_raise_signal = signal.raise_signal


class Termination:
    """Calls `close` before SIGTERM ends the process, and leaves the exit status as it is.

    There are two ways to such an end. If the application has no handler, one is installed, in the main thread only. And
    a server such as uvicorn handles the signal, stops, restores what was there before it (often before `init`), and
    raises the signal again; so `signal.raise_signal` is replaced. Handlers of the application are left alone.
    """

    def __init__(self, close: Callable[[], None], reopen: Callable[[], None]) -> None:
        self._close = close
        self._reopen = reopen
        self._is_ending = False

    def install(self) -> None:
        """Install the handler, unless there is another one; a second call has no further effect."""
        signal.raise_signal = self._before_raising
        if threading.current_thread() is threading.main_thread() and _is_deadly():
            signal.signal(signal.SIGTERM, self._handle)

    def _before_raising(self, signalnum: int, /) -> None:
        if signalnum != signal.SIGTERM or not _is_deadly():
            _raise_signal(signalnum)
            return
        try:
            self._close()
        finally:
            _raise_signal(signalnum)
            self._reopen()  # the process lives on if it is the first one of a container, or blocks the signal

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        if self._is_ending:  # another SIGTERM must not end it halfway
            return
        self._is_ending = True
        try:
            self._close()
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            _raise_signal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._handle)
            self._is_ending = False
            self._reopen()


def _is_deadly() -> bool:
    return signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
