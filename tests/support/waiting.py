"""Waits of the tests: for a condition, never for a time.

A passing test waits as long as the condition takes. The maximum only ends a test that fails, so it far exceeds what a
slow and busy machine needs, and there is one of it: also for requests, processes and threads. No test asserts a time.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import accumulate, chain, repeat
from typing import Any

PATIENCE_S = 120.0
"""Maximum wait for a condition, a response or the end of a process. The time-out of pytest (`pyproject.toml`) exceeds
it: a wait that fails says what it waited for."""

DEADLINES: dict[str, Any] = {
    "write_deadline_s": 60.0,
    "read_deadline_s": 60.0,
    "connect_deadline_s": 60.0,
    "internal_deadline_s": 60.0,
    "cache_deadline_s": 2.0,
    "head_deadline_s": 60.0,
    "body_deadline_s": 60.0,
    "body_stall_s": 60.0,
    "answer_deadline_s": 600.0,
}
"""Settings of the collectors under test: a busy machine is not a fault. A test of a deadline sets that deadline.

The cache's deadline is shorter, since a test that makes the cache hang waits for it at each request."""

ENVIRONMENT = {f"BRAIN_COLLECTOR_{name.upper()}": str(value) for name, value in DEADLINES.items()}


def wait_until(condition: Callable[..., object], description: str = "the condition holds") -> None:
    """Return when the condition holds; fail after `PATIENCE_S`."""
    give_up_at = time.monotonic() + PATIENCE_S
    for pause_s in _pauses_s():
        if condition():
            return
        assert time.monotonic() < give_up_at, f"not so after {PATIENCE_S:.0f} s: {description}"
        time.sleep(pause_s)


async def eventually(condition: Callable[[], Awaitable[bool]], description: str) -> None:
    """Do what `wait_until` does in an event loop."""
    give_up_at = time.monotonic() + PATIENCE_S
    for pause_s in _pauses_s():
        if await condition():
            return
        assert time.monotonic() < give_up_at, f"not so after {PATIENCE_S:.0f} s: {description}"
        await asyncio.sleep(pause_s)


def _pauses_s() -> Iterator[float]:
    """Yield short pauses first, then some that leave the processor to what is waited for."""
    first = accumulate(range(12), lambda pause_s, _: pause_s * 1.4, initial=0.001)
    return chain(first, repeat(0.05))
