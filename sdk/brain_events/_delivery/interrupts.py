"""Ctrl-C while a client closes: let signal handlers raise only where the closing thread waits.

Python runs a handler between any two bytecodes of the main thread. A handler that raises there, as that of Ctrl-C does
or one that calls `sys.exit`, would lose the lines that were just taken from the buffer and are not on disk yet.
"""

import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

HOLD_S = 2.0
"""Maximum time that a signal is held back, in seconds. A disk may hang: after this time handlers run anywhere."""

_entered: "weakref.WeakSet[Interrupts]" = weakref.WeakSet()


class Interrupts:
    """Replaces the application's signal handlers while it is entered; only in the main thread, where handlers run.

    Inside `allowed` a handler runs at once, until one raises. Elsewhere it runs after the `with` block, unless it has
    already raised.
    """

    def __init__(self) -> None:
        self._handlers: dict[int, Callable[[int, FrameType | None], Any]] = {}
        self._replaced: set[int] = set()
        self._waiting: list[int] = []
        self._raised: set[int] = set()
        self._held_since = 0.0
        self._is_open = False

    def __enter__(self) -> Self:
        _entered.add(self)
        try:
            for number in signal.valid_signals():
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler
                    self._replaced.add(number)
                    signal.signal(number, self._handle)
        except ValueError:  # not the main thread: no handler runs here
            self.restore()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let handlers run, those that wait first; use it only where an exception does no harm."""
        try:
            self._is_open = not self._raised
            while self._is_open and self._waiting:
                self._handle(self._waiting.pop(0), sys._getframe())  # noqa: SLF001 -- some handlers use it
            yield
        finally:
            self._is_open = False

    def restore(self) -> None:
        """Put the application's handlers back."""
        try:
            while self._replaced:
                number = next(iter(self._replaced))
                if signal.getsignal(number) == self._handle:  # unless a handler has installed another one
                    signal.signal(number, self._handlers[number])
                self._replaced.remove(number)
        except BaseException:  # raised by a handler that was just put back
            self.restore()
            raise

    def _end(self) -> None:
        try:
            self.restore()
        finally:
            self._run_waiting()

    def _run_waiting(self) -> None:
        """Run the handler that each waiting signal has by now, even if another handler raises.

        The signals are not raised again: an event loop was already woken by them, and would see each of them twice.
        """
        try:
            while self._waiting:
                number = self._waiting.pop(0)
                if number in self._raised:
                    continue
                handler = signal.getsignal(number)
                if callable(handler):
                    handler(number, sys._getframe())  # noqa: SLF001 -- as above
                else:
                    signal.raise_signal(number)
        except BaseException:
            self._run_waiting()
            raise

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number not in self._replaced:  # called by a handler that was installed meanwhile and chains to this one
            self._handlers[number](number, frame)
            return
        now = time.monotonic()
        if not self._waiting:
            self._held_since = now
        if not self._is_open and now - self._held_since < HOLD_S:
            if number not in self._waiting:
                self._waiting.append(number)
            return
        try:
            self._handlers[number](number, frame)
        except BaseException:
            self._is_open = False
            self._raised.add(number)
            raise


def _restore_in_child() -> None:
    """Restore the handlers in a child that another thread forks meanwhile: the closing thread does not exist there."""
    for interrupts in list(_entered):
        interrupts.restore()


os.register_at_fork(after_in_child=_restore_in_child)
