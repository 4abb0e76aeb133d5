"""A timer of a connection: one deadline at a time, which can be restarted and stopped."""

import asyncio
from collections.abc import Callable


class Timer:
    """Calls a function after a time, unless it is stopped or restarted before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: asyncio.TimerHandle | None = None

    @property
    def is_started(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._handle is not None

    def start(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call the function after this time, in place of an earlier one."""
        self.stop()
        self._handle = self._loop.call_later(seconds, callback)

    def stop(self) -> None:
        """Call nothing."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
