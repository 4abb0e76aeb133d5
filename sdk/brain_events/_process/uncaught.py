"""Uncaught exceptions: an event for each one that ends the program or a thread, or that Python cannot raise."""

import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from brain_events._record.exception import summary_of, was_logged
from brain_events._record.sanitize import to_text
from brain_events.context import SENDING

EVENT_TYPE = "uncaught_exception"
MAX_OBJECT_CHARS = 200

_ENDINGS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""They end a program, a thread or a generator on purpose."""


class UncaughtExceptions:
    """Logs what reaches the three hooks of the interpreter, then calls the hooks that were there before.

    They are installed once. They cannot be removed safely, since others may have wrapped them, but switched off.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._is_installed = False

    def switch(self, log: Callable[..., None], *, is_on: bool) -> None:
        """Log what the hooks get from now on, or log it no longer; `log` is used as `log_system_event`."""
        self._log = log
        self._is_on = is_on
        if is_on and not self._is_installed:
            self._is_installed = True
            self._install()

    def _install(self) -> None:
        self._main_before, sys.excepthook = sys.excepthook, self._in_main
        self._thread_before, threading.excepthook = threading.excepthook, self._in_thread
        self._unraisable_before, sys.unraisablehook = sys.unraisablehook, self._unraisable

    def _in_main(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        self._log_once(error, "critical", lambda: {"thread": threading.current_thread().name})
        self._main_before(kind, error, trace)

    def _in_thread(self, args: Any) -> None:
        self._log_once(args.exc_value, "error", lambda: {"thread": args.thread and args.thread.name})
        self._thread_before(args)

    def _unraisable(self, args: Any) -> None:
        self._log_once(
            args.exc_value,
            "error",
            lambda: {"while": args.err_msg or "Exception ignored in", "object": to_text(args.object, MAX_OBJECT_CHARS)},
        )
        self._unraisable_before(args)

    def _is_wanted(self) -> bool:
        """Return False also at an interactive prompt, while the interpreter ends, and for what delivery itself does."""
        return self._is_on and not hasattr(sys, "ps1") and not sys.is_finalizing() and not SENDING.get()

    def _log_once(self, error: BaseException | None, severity: str, details: Callable[[], dict[str, Any]]) -> None:
        """Log an exception that no event has yet; never raise, not even while the interpreter shuts down."""
        with suppress(Exception):
            if self._is_wanted() and error is not None and not isinstance(error, _ENDINGS) and not was_logged(error):
                self._log(EVENT_TYPE, severity, summary_of(error), details(), exc_info=error)
