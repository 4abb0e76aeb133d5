"""The interface of a cache, and the scopes of its generations."""

from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, Protocol, TypeAlias

from brain_collector.schema import State

MAX_VALUE_BYTES: Final = 1024 * 1024
"""Maximum size of a cached value; a larger one is returned without being cached."""

Fill: TypeAlias = Callable[[], Awaitable[bytes]]


class CacheScope(StrEnum):
    """The values that one generation covers."""

    LIST = "events"
    """Lists and statistics: every write changes them."""
    ONE = "event"
    """Single events: PUT and DELETE change them."""


class Cache(Protocol):
    def use_database(self, database_id: str) -> None:
        """Keep the values of this database apart from those of any other one; to be called before the first use."""

    async def get_or_fill(self, scope: CacheScope, key: str, ttl_s: float, fill: Fill) -> bytes:
        """Return the value cached in the scope's generation, or that of `fill`; raise only what `fill` raises.

        One caller at a time fills; others with the same key and generation wait for its value or its error.
        """

    async def invalidate(self, scope: CacheScope) -> None:
        """Begin a new generation. Call this after the commit and before the response to the writer's client."""

    async def check(self) -> State:
        """Check that the cache responds, unless it is known to be down and the next attempt is not due."""

    async def evaluate(self, script: str, name: str, *arguments: float) -> list[bytes] | None:
        """Run a Lua script on the value of that name; None if there is no Redis, or it does not respond."""

    async def close(self) -> None: ...

    @property
    def state(self) -> State: ...
