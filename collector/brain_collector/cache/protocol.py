"""What a cache does, whichever server or memory it uses."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from brain_collector.schema import State

MAX_VALUE_BYTES: Final = 1024 * 1024
"""A larger value is returned, and not kept."""

Fill: TypeAlias = Callable[[], Awaitable[bytes]]


class CacheScope(StrEnum):
    """What one generation covers."""

    LIST = "events"
    """Lists and statistics: every write changes them."""
    ONE = "event"
    """Single events: PUT and DELETE change them."""


class Cache(Protocol):
    async def get_or_fill(self, scope: CacheScope, key: str, ttl_s: float, fill: Fill) -> bytes:
        """Return the value of the scope's generation, or what `fill` makes of it; raises only what `fill` raises.

        One caller at a time fills; callers with the same key and generation wait for its answer or share its error.
        """

    async def invalidate(self, scope: CacheScope) -> None:
        """Begin a new generation. Call it after the commit and before the writer's client gets its answer."""

    async def check(self) -> State:
        """Ask the cache for a sign of life, unless it is known to be down and the next try is not due."""

    async def evaluate(self, script: str, name: str, *arguments: float) -> list[bytes] | None:
        """Run a Lua script on the value of that name; None if there is no Redis, or none that answers now."""

    async def close(self) -> None: ...

    @property
    def state(self) -> State: ...
