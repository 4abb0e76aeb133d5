"""Threads in which large bodies are inflated and decoded: in the event loop this would block every other request.

They are not asyncio's default threads, which thus remain free for other work. A thread cannot be cancelled, so the work
calls a check again and again, which ends it when it has taken too long, or when its request has ended, as at shutdown.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from brain_collector.errors import BodyTooLarge

N_THREADS: Final = 4
"""Decoding holds Python's lock most of the time: more threads would not make it faster."""
MAX_CPU_S: Final = 5.0
"""Maximum processor time of the work on one body; the waiting of its thread does not count."""

T = TypeVar("T")
Work = Callable[[Callable[[], None]], T]


class BodyThreads:
    """The threads, and the work that waits for them."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(N_THREADS, "body")

    async def run(self, work: Work[T]) -> T:
        """Return what the work returns; it gets the check, which it must not catch the exceptions of.

        Raises:
            BodyTooLarge: the work took more than `MAX_CPU_S`.
        """
        turn = _Turn()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, turn.take, work)
        finally:
            turn.is_abandoned = True

    def close(self) -> None:
        """Let the threads end; work that has not begun is cancelled."""
        self._executor.shutdown(wait=False, cancel_futures=True)


class _Abandoned(Exception):  # noqa: N818 - an outcome
    """The request of this work has ended."""


class _Turn:
    """The work on one body in a thread."""

    def __init__(self) -> None:
        self.is_abandoned = False
        self._stop_at_s = 0.0

    def take(self, work: Work[T]) -> T:
        self._stop_at_s = time.thread_time() + MAX_CPU_S
        return work(self._check)

    def _check(self) -> None:
        if self.is_abandoned:
            raise _Abandoned
        if time.thread_time() > self._stop_at_s:
            raise BodyTooLarge(f"decoding the body takes more than {MAX_CPU_S:g} s of CPU time; send smaller batches")
