"""Whether the database responds: queried at most once a second for all probes, because any client may send probes."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

FRESH_S: Final = 1.0
"""How long an outcome is used."""
PATIENCE_S: Final = 3.0
"""How long a probe waits for the outcome; then the database counts as not responding."""


class Ping:
    """The latest outcome of `ask`, which sends a query to the database and returns whether it responds."""

    def __init__(self, ask: Callable[[], Awaitable[bool]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._asked_s = -FRESH_S
        self._latency_ms: float | None = None

    async def latency_ms(self) -> float | None:
        """Return how long the database took to respond, at most a second ago; None if it does not respond."""
        if self._asking is None and time.monotonic() - self._asked_s >= FRESH_S:
            self._asking = asyncio.create_task(self._measure())
        if self._asking is not None:
            done, _ = await asyncio.wait([self._asking], timeout=PATIENCE_S)
            if not done:
                return None
        return self._latency_ms

    async def _measure(self) -> None:
        began_s = time.perf_counter()
        try:
            is_responding = await self._ask()
            self._latency_ms = round((time.perf_counter() - began_s) * 1000, 3) if is_responding else None
        finally:
            self._asked_s = time.monotonic()
            self._asking = None
