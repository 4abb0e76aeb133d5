"""Keeps ready-made response bytes: a scope and a key in, bytes out, from the cache or from `fill`; never an error.

A generation is a random token. Values are stored under the token that was read *before* they were made, so whoever
replaces the token makes all of them unreachable at once, also those that are being made just now. (A counter in the
token's place would serve old values again after a FLUSHALL or an eviction.)

May import the ground floor only, and redis. Must not know what the bytes are.
"""

import asyncio
import logging
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

import msgspec
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from brain_collector.cache.single_flight import SingleFlight
from brain_collector.metrics import CACHE_REQUESTS, Metrics
from brain_collector.schema import State

logger = logging.getLogger(__name__)

MAX_VALUE_BYTES = 1024 * 1024
PATIENCE_S = 0.04
MAX_CONNECTIONS = 16
ENTRY_BYTES = 400

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


def open_cache(redis_url: str | None, *, patience_s: float = PATIENCE_S, metrics: Metrics | None = None) -> Cache:
    """Return a cache in Redis, or one in this process, which is right for a single collector only.

    Connects to nothing yet. Raises ValueError if the URL's scheme is none of redis://, rediss:// and unix://.
    """
    if redis_url is None:
        return MemoryCache(metrics=metrics)
    return RedisCache(redis_url, patience_s=patience_s, metrics=metrics)


class MemoryCache:
    """Within one process: bounded in bytes, least recently used goes first."""

    state: State = "up"

    def __init__(self, max_bytes: int = 64 * 1024 * 1024, *, metrics: Metrics | None = None) -> None:
        self._metrics = metrics or Metrics()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._generations = dict.fromkeys(CacheScope, 0)
        self._entries: OrderedDict[tuple[CacheScope, str], _Entry] = OrderedDict()
        self._flights = SingleFlight()

    async def get_or_fill(self, scope: CacheScope, key: str, ttl_s: float, fill: Fill) -> bytes:
        generation = self._generations[scope]
        entry = self._entries.get((scope, key))
        if entry is not None and entry.generation == generation and entry.expires_at > time.monotonic():
            self._entries.move_to_end((scope, key))
            self._metrics.add(CACHE_REQUESTS, scope, "hit")
            return entry.value
        self._metrics.add(CACHE_REQUESTS, scope, "miss")

        async def keep(value: bytes) -> None:
            if generation == self._generations[scope]:  # else it would take the place of a newer one
                self._put((scope, key), _Entry(generation, time.monotonic() + ttl_s, value))

        return await self._flights.join((scope, generation, key), fill, keep)

    async def invalidate(self, scope: CacheScope) -> None:
        self._generations[scope] += 1

    async def check(self) -> State:
        return self.state

    async def evaluate(self, script: str, name: str, *arguments: float) -> None:  # noqa: ARG002 - as the other one
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


class RedisCache:
    """In Redis or Valkey, shared by collectors; whatever happens to the server, callers get what `fill` makes.

    `brain:gen:<scope>` holds the token, `brain:<scope>:<token>:<key>` the values. A token is *owed* when it could not
    be written, or when another server answers than before, which may have been restored to an older state: until one
    is written, nothing cached is trusted.
    """

    def __init__(
        self,
        url: str,
        *,
        namespace: str = "brain",
        retry_interval_s: float = 1.0,
        patience_s: float = PATIENCE_S,
        metrics: Metrics | None = None,
    ) -> None:
        """`patience_s` is for one command: a server that hangs costs a caller this once, then nobody until a retry."""
        pool = redis.asyncio.ConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            socket_timeout=None,  # _patience has it; redis-py's way swallows cancellations (gh-86296, Python 3.11)
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 1),  # a connection closed while it was idle shows that when it is used
            redis_connect_func=self._greet,
        )
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)  # to wait for one is not the server's fault
        self._namespace = namespace
        self._metrics = metrics or Metrics()
        self._retry_interval_s = retry_interval_s
        self._patience_s = patience_s
        self._flights = SingleFlight()
        self._owed = dict.fromkeys(CacheScope, 1)
        self._paid = dict.fromkeys(CacheScope, 0)
        self._tokens = dict.fromkeys(CacheScope, b"")
        self._renewing: set[CacheScope] = set()
        self._run_id: bytes | None = None
        self._retry_at: float | None = None
        self._scripts_refused = False

    @property
    def state(self) -> State:
        return "up" if self._retry_at is None else "down"

    async def get_or_fill(self, scope: CacheScope, key: str, ttl_s: float, fill: Fill) -> bytes:
        so_far = self._flights.started
        token, value = await self._look_up(scope, key)
        self._metrics.add(CACHE_REQUESTS, scope, "hit" if value is not None else "miss" if token else "bypass")
        if value is not None:
            return value

        async def keep(value: bytes) -> None:
            if token is not None and len(value) <= MAX_VALUE_BYTES:
                name = self._name(scope, token, key)
                await self._ask("SET", name, name + b"\n" + value, "PX", max(1, int(ttl_s * 1000)))

        # Without a token nobody knows of others' writes: then a fill is only for those who came before it began.
        return await self._flights.join((scope, token, key), fill, keep, after=so_far if token is None else 0)

    async def invalidate(self, scope: CacheScope) -> None:
        self._owed[scope] += 1
        await self._renew(scope)

    async def check(self) -> State:
        await self._ask("PING")
        for scope in CacheScope:  # a token that could not be written: other collectors serve old answers until it is
            await self._is_paid_up(scope)
        return self.state

    async def evaluate(self, script: str, name: str, *arguments: float) -> list[bytes] | None:
        reply = await self._ask("EVAL", script, 1, f"{self._namespace}:{name}", *arguments)
        return reply if isinstance(reply, list) else None

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _look_up(self, scope: CacheScope, key: str) -> tuple[bytes | None, bytes | None]:
        """Return the token and the value under it; no token if there is none to be trusted."""
        if not await self._is_paid_up(scope):
            return None, None
        owed, guess = self._owed[scope], self._tokens[scope]
        token, value = await self._get(self._generation_name(scope), self._name(scope, guess, key))
        if self._owed[scope] != owed:  # on the way here the connection was made anew, or a write came in between
            return None, None
        if token is None:  # flushed or evicted; or no answer, and then this costs nothing
            self._owed[scope] += 1
            return (self._tokens[scope] if await self._renew(scope) else None), None
        if token != guess:
            self._tokens[scope] = token
            (value,) = await self._get(self._name(scope, token, key))
        prefix = self._name(scope, token, key) + b"\n"
        return token, value.removeprefix(prefix) if value and value.startswith(prefix) else None

    async def _is_paid_up(self, scope: CacheScope) -> bool:
        if self._paid[scope] == self._owed[scope]:
            return True
        if scope in self._renewing:
            return False
        self._renewing.add(scope)
        try:
            return await self._renew(scope)
        finally:
            self._renewing.discard(scope)

    async def _renew(self, scope: CacheScope) -> bool:
        """Write a new token, which pays all that was owed when it was sent."""
        owed, token = self._owed[scope], secrets.token_hex(8).encode()
        if not await self._ask("SET", self._generation_name(scope), token):
            return False
        self._paid[scope] = max(self._paid[scope], owed)
        self._tokens[scope] = token
        return self._paid[scope] == self._owed[scope]

    async def _get(self, *names: bytes) -> list[bytes | None]:
        """MGET, which takes a key of another type for a missing one; all are missing if there is no answer."""
        reply = await self._ask("MGET", *names)
        return reply if isinstance(reply, list) and len(reply) == len(names) else [None] * len(names)

    async def _ask(self, *command: Any) -> Any:
        """Send one command; None if the server is away, hangs or refuses."""
        async with self._connections:
            if not self._may_ask():
                return None
            try:
                async with _patience(self._patience_s):
                    reply = await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
            except ResponseError as error:
                if command[0] != "EVAL":
                    return self._lost(error)
                if not self._scripts_refused:  # by its access rules, or it is full: it answers all the same
                    logger.warning("the cache runs no script (%s); limits are counted by each collector itself", error)
                    self._scripts_refused = True
                return None
            except Exception as error:  # noqa: BLE001 - on garbage redis-py raises ValueError, IndexError and more
                return self._lost(error)
            if self._retry_at is not None:
                logger.warning("the cache is back")
                self._retry_at = None
            return reply

    def _lost(self, error: Exception) -> None:
        if self._retry_at is None:
            logger.warning("the cache does not answer (%r); reads go to the database", error)
        self._retry_at = time.monotonic() + self._retry_interval_s

    def _may_ask(self) -> bool:
        if self._retry_at is not None:
            now = time.monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._retry_interval_s  # one caller tries, the others wait for what it finds
        return True

    async def _greet(self, connection: Any) -> None:
        """Look who answers on a new connection; one who does not tell its run id counts as unknown each time."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            found = re.search(rb"run_id:(\w+)", await connection.read_response())
        except ResponseError:
            found = None
        if found is None or found[1] != self._run_id:
            self._run_id = found[1] if found else None
            for scope in CacheScope:
                self._owed[scope] += 1

    def _generation_name(self, scope: CacheScope) -> bytes:
        return f"{self._namespace}:gen:{scope}".encode()

    def _name(self, scope: CacheScope, token: bytes, key: str) -> bytes:
        return f"{self._namespace}:{scope}:".encode() + token + b":" + key.encode(errors="surrogatepass")


def _size(name: "tuple[CacheScope, str]", entry: "_Entry") -> int:
    """Return the bytes that an entry takes, key and objects included."""
    return len(name[1]) + len(entry.value) + ENTRY_BYTES


class _Entry(msgspec.Struct, frozen=True):
    generation: int
    expires_at: float
    value: bytes


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """As asyncio.timeout, in two halves: one stall of the loop, while answers wait unread, uses up only one of them."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        second_half = loop.call_later(seconds / 2, lambda: limit.reschedule(loop.time() + seconds / 2))
        try:
            yield
        finally:
            second_half.cancel()
