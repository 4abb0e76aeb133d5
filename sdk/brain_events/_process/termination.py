"""Servers that end by raising SIGTERM again: deliver the remaining events first, since no exit hook runs then.

uvicorn handles the signal, stops, restores the handler that was there before it, which is the default, and raises the
signal again. Nothing of the application runs after that. So `signal.raise_signal` is replaced; no handler is touched.
"""

import signal
from collections.abc import Callable

_raise_signal = signal.raise_signal


class Termination:
    """Calls `close` before a raised SIGTERM ends the process, whose exit status stays as it is.

    Args:
        close: Delivers the remaining events.
        reopen: Called if the process lives on: it is the first one of a container, or blocks the signal.
    """

    def __init__(self, close: Callable[[], None], reopen: Callable[[], None]) -> None:
        self._close = close
        self._reopen = reopen

    def install(self) -> None:
        """Replace `signal.raise_signal`."""
        signal.raise_signal = self._raise

    def _raise(self, signalnum: int, /) -> None:
        if signalnum != signal.SIGTERM or signal.getsignal(signalnum) != signal.SIG_DFL:
            _raise_signal(signalnum)
            return
        try:
            self._close()
        finally:
            _raise_signal(signalnum)
            self._reopen()
