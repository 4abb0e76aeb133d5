"""The SDK's own log messages: kept when something happens, and logged later by the worker, without a lock.

A thread that logs may wait for a handler's lock, and the thread that holds it may wait for a lock of the SDK.
"""

import logging
import time
from collections import deque
from contextlib import suppress
from pathlib import PurePath

from brain_events._printable import one_line

INTERVAL_S = 60.0

logger = logging.getLogger("brain_events")


class Notices:
    """Messages that wait to be logged; at most one warning of each kind in a minute."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}
        self._waiting: deque[tuple[int, str, tuple[object, ...]]] = deque()

    def warn(self, kind: str, text: str, *args: object) -> None:
        """Keep a warning, unless there was one of its kind in the last minute. For any thread; never waits."""
        now = time.monotonic()
        if now - self._last_s.get(kind, -INTERVAL_S) >= INTERVAL_S:
            self._last_s[kind] = now
            self._waiting.append((logging.WARNING, text, args))

    def inform(self, text: str, *args: object) -> None:
        """Keep a message of level INFO."""
        self._waiting.append((logging.INFO, text, args))

    def emit(self) -> None:
        """Log all messages that wait."""
        while self._waiting:
            level, text, args = self._waiting.popleft()
            log(level, text, *args)


def log(level: int, text: str, *args: object, exc_info: bool = False) -> None:
    """Log a message on one line, since its arguments may quote another machine.

    A filter or a handler of the application that raises must not end the thread that delivers.
    """
    safe = [one_line(str(arg)) if isinstance(arg, str | BaseException | PurePath) else arg for arg in args]
    with suppress(Exception):
        logger.log(level, text, *safe, exc_info=exc_info)
