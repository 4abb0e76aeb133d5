"""Ctrl-C while a client closes: what a signal handler raises comes in where the closing thread waits, nowhere else.

Python runs handlers between any two bytecodes of the main thread. One that raises there, as that of Ctrl-C does and one
that calls `sys.exit`, would lose the lines that were just taken from the buffer and are not on disk yet.
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
"""A disk may hang: who insists for that long is let in anywhere."""

_entered: "weakref.WeakSet[Interrupts]" = weakref.WeakSet()


class Interrupts:
    """Stands before the handlers of the application while it is entered; in the main thread, the only one that has any.

    A handler runs at once inside `let_in`, until one raises; else when all is done, unless it has raised already.
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
                    signal.signal(number, self._meet)
        except ValueError:  # another thread, where no handler runs
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
    def let_in(self) -> Iterator[None]:
        """Let handlers run, first those that wait; nothing must be half done here."""
        try:
            self._is_open = not self._raised
            while self._is_open and self._waiting:
                self._meet(self._waiting.pop(0), sys._getframe())  # noqa: SLF001 -- some handlers look at it
            yield
        finally:
            self._is_open = False

    def restore(self) -> None:
        """Step aside."""
        try:
            while self._replaced:
                number = next(iter(self._replaced))
                if signal.getsignal(number) == self._meet:  # not if a handler has installed another
                    signal.signal(number, self._handlers[number])
                self._replaced.remove(number)
        except BaseException:  # of a handler that is back in its place
            self.restore()
            raise

    def _end(self) -> None:
        try:
            self.restore()
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """Run what waits, each signal to the handler that it has by now; one that raises does not lose the others.

        Not by raising signals: an event loop has been woken by the first ones, and would see each twice.
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
            self._pass_on()
            raise

    def _meet(self, number: int, frame: FrameType | None) -> None:
        if number not in self._replaced:  # a handler that was installed meanwhile calls the one that it found: this
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


def _start_anew_in_child() -> None:
    """In a child that another thread has forked meanwhile, nobody would take the handlers' place again."""
    for interrupts in list(_entered):
        interrupts.restore()


os.register_at_fork(after_in_child=_start_anew_in_child)
