"""What the SDK has to say about itself: kept here when it happens, logged later, by the worker and without a lock.

A thread that logs may wait for a handler's lock, whose holder may wait for ours.
"""

import logging
import time
from collections import deque
from contextlib import suppress

INTERVAL_S = 60.0

logger = logging.getLogger("brain_events")


class Notices:
    """Lets one notice of a kind through in a minute."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}
        self._waiting: deque[tuple[int, str, tuple[object, ...]]] = deque()

    def warn(self, kind: str, text: str, *args: object) -> None:
        """Keep a warning, unless there was one of its kind in the last minute; from any thread, without waiting."""
        now = time.monotonic()
        if now - self._last_s.get(kind, -INTERVAL_S) >= INTERVAL_S:
            self._last_s[kind] = now
            self._waiting.append((logging.WARNING, text, args))

    def inform(self, text: str, *args: object) -> None:
        self._waiting.append((logging.INFO, text, args))

    def emit(self) -> None:
        """Log what has come together."""
        while self._waiting:
            level, text, args = self._waiting.popleft()
            say(level, text, *args)


def say(level: int, text: str, *args: object, exc_info: bool = False) -> None:
    """Log; a filter or a handler of the application that raises shall not end the thread that delivers."""
    with suppress(Exception):
        logger.log(level, text, *args, exc_info=exc_info)
