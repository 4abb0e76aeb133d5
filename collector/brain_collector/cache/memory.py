"""A cache in this process, for a single collector."""

import time
from collections import OrderedDict
from typing import Final

import msgspec

from brain_collector.cache.protocol import MAX_VALUE_BYTES, CacheScope, Fill
from brain_collector.cache.single_flight import SingleFlight
from brain_collector.metrics import CACHE_REQUESTS, Metrics
from brain_collector.schema import State

ENTRY_BYTES: Final = 400
"""Memory of an entry in addition to its key and value."""


class MemoryCache:
    """A `Cache` of limited size that evicts the least recently used entries."""

    state: State = "up"

    def __init__(self, metrics: Metrics, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._metrics = metrics
        self._database_id = ""
        self._max_bytes = max_bytes
        self._bytes = 0
        self._generations = dict.fromkeys(CacheScope, 0)
        self._entries: OrderedDict[tuple[CacheScope, str], _Entry] = OrderedDict()
        self._flights = SingleFlight()

    def use_database(self, database_id: str) -> None:
        if database_id != self._database_id:
            self._database_id = database_id
            for scope in CacheScope:
                self._generations[scope] += 1

    async def get_or_fill(self, scope: CacheScope, key: str, ttl_s: float, fill: Fill) -> bytes:
        generation = self._generations[scope]
        entry = self._entries.get((scope, key))
        if entry is not None and entry.generation == generation and entry.expires_at > time.monotonic():
            self._entries.move_to_end((scope, key))
            self._metrics.add(CACHE_REQUESTS, scope, "hit")
            return entry.value
        self._metrics.add(CACHE_REQUESTS, scope, "miss")

        async def keep(value: bytes) -> None:
            if generation == self._generations[scope]:  # an older value must not replace a newer one
                self._put((scope, key), _Entry(generation, time.monotonic() + ttl_s, value))

        return await self._flights.join((scope, generation, key), fill, keep)

    async def invalidate(self, scope: CacheScope) -> None:
        self._generations[scope] += 1

    async def check(self) -> State:
        return self.state

    async def evaluate(self, script: str, name: str, *arguments: float) -> None:  # noqa: ARG002 - the protocol's
        return None

    async def close(self) -> None:
        self._entries.clear()

    def _put(self, name: "tuple[CacheScope, str]", entry: "_Entry") -> None:
        if name in self._entries:
            self._bytes -= _size(name, self._entries.pop(name))
        if len(entry.value) > MAX_VALUE_BYTES:
            return
        self._entries[name] = entry
        self._bytes += _size(name, entry)
        while self._bytes > self._max_bytes:
            self._bytes -= _size(*self._entries.popitem(last=False))


def _size(name: "tuple[CacheScope, str]", entry: "_Entry") -> int:
    """Return the memory of an entry, including its key and objects."""
    return len(name[1]) + len(entry.value) + ENTRY_BYTES


class _Entry(msgspec.Struct, frozen=True):
    generation: int
    expires_at: float
    value: bytes
