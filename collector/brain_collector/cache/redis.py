"""A cache in Redis or Valkey, shared by collectors. If the server fails, callers get the value of `fill`."""

import asyncio
import logging
import math
import re
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from brain_collector.addresses.redis_url import connection_url
from brain_collector.cache.failure_reason import reason_of
from brain_collector.cache.protocol import MAX_VALUE_BYTES, CacheScope, Fill
from brain_collector.cache.single_flight import SingleFlight
from brain_collector.metrics import CACHE_REQUESTS, Metrics
from brain_collector.schema import State

logger: Final = logging.getLogger(__name__)

PATIENCE_S: Final = 0.04
MAX_CONNECTIONS: Final = 16
LOST_AFTER_S: Final = 1.0
"""Time for which a cache must fail until it counts as lost, and then work until it is back. A hiccup is neither."""
REFUSAL_LOG_INTERVAL_S: Final = 60.0
PROBE_TTL_MS: Final = 60_000


class RedisCache:
    """A `Cache` in Redis.

    `brain:<database>:gen:<scope>` has the token, `brain:<database>:<scope>:<token>:<key>` the values. So installations
    can share a server. Until the database is known, nothing cached is used. An invalidation is *pending* until its
    token is written. One also becomes pending when a different server responds, since that may have been restored to
    an older state. While an invalidation is pending, nothing cached is used.

    After a failure, callers do without the cache until a retry succeeds. The state changes more slowly: `check`, with a
    longer deadline than callers have, finds out whether the server only hiccuped, and writes, since a server that is
    full or read-only responds, but cannot be used.
    """

    def __init__(
        self,
        url: str,
        metrics: Metrics,
        *,
        retry_interval_s: float = 1.0,
        patience_s: float = PATIENCE_S,
        lost_after_s: float = LOST_AFTER_S,
    ) -> None:
        """Connect to nothing yet.

        `patience_s` is the deadline of a command: a hanging server delays one caller, then none until a retry.
        """
        pool = redis.asyncio.ConnectionPool.from_url(
            connection_url(url),
            max_connections=MAX_CONNECTIONS,
            socket_timeout=None,  # `_deadline` does it; that of redis-py swallows cancellations (gh-86296, Python 3.11)
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 1),  # that a connection was closed while idle is noticed only when it is used
            redis_connect_func=self._identify_server,
        )
        self._url = url
        self._redis = redis.asyncio.Redis.from_pool(pool)
        self._connections = asyncio.Semaphore(MAX_CONNECTIONS)  # waiting for one is outside the deadline
        self._database_id: str | None = None
        self._metrics = metrics
        self._retry_interval_s = retry_interval_s
        self._patience_s = patience_s
        self._lost_after_s = lost_after_s
        self._flights = SingleFlight()
        self._pending = dict.fromkeys(CacheScope, 1)
        self._done = dict.fromkeys(CacheScope, 0)
        self._tokens = dict.fromkeys(CacheScope, b"")
        self._renewing: set[CacheScope] = set()
        self._run_id: bytes | None = None
        self._retry_at: float | None = None
        self._scripts_refused = False
        self._is_lost = False
        self._failing_since_s: float | None = None
        self._failed_at_s = self._refusal_logged_at_s = -math.inf

    @property
    def state(self) -> State:
        return "down" if self._is_lost else "up"

    def use_database(self, database_id: str) -> None:
        if database_id != self._database_id:
            self._database_id = database_id
            for scope in CacheScope:
                self._pending[scope] += 1

    async def get_or_fill(self, scope: CacheScope, key: str, ttl_s: float, fill: Fill) -> bytes:
        n_before = self._flights.n_started
        token, value = await self._look_up(scope, key)
        self._metrics.add(CACHE_REQUESTS, scope, "hit" if value is not None else "miss" if token else "bypass")
        if value is not None:
            return value

        async def keep(value: bytes) -> None:
            if token is not None and len(value) <= MAX_VALUE_BYTES:
                name = self._name(scope, token, key)
                await self._send("SET", name, name + b"\n" + value, "PX", max(1, int(ttl_s * 1000)))

        # Without a token, writes of other collectors are unknown: share only a fill that began after this call.
        return await self._flights.join((scope, token, key), fill, keep, after=n_before if token is None else 0)

    async def invalidate(self, scope: CacheScope) -> None:
        self._pending[scope] += 1
        await self._renew(scope)

    async def check(self) -> State:
        probe = ("SET", "brain:probe", b"", "PX", PROBE_TTL_MS)  # of any database: it has no content
        await self._send(*probe, patience_s=max(self._patience_s, self._lost_after_s), always=True)
        for scope in CacheScope:  # retries a pending invalidation: until then other collectors serve old values
            await self._is_settled(scope)
        return self.state

    async def evaluate(self, script: str, name: str, *arguments: float) -> list[bytes] | None:
        if self._database_id is None:
            return None
        reply = await self._send("EVAL", script, 1, f"brain:{self._database_id}:{name}", *arguments)
        return reply if isinstance(reply, list) else None

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def _look_up(self, scope: CacheScope, key: str) -> tuple[bytes | None, bytes | None]:
        """Return the token and the value stored under it; no token if the cache cannot be trusted."""
        if not await self._is_settled(scope):
            return None, None
        pending, guess = self._pending[scope], self._tokens[scope]
        token, value = await self._get(self._generation_name(scope), self._name(scope, guess, key))
        if self._pending[scope] != pending:  # meanwhile the connection was replaced, or a write invalidated the cache
            return None, None
        if token is None:  # flushed or evicted; if the server does not respond, this costs nothing
            self._pending[scope] += 1
            return (self._tokens[scope] if await self._renew(scope) else None), None
        if token != guess:
            self._tokens[scope] = token
            (value,) = await self._get(self._name(scope, token, key))
        prefix = self._name(scope, token, key) + b"\n"
        return token, value.removeprefix(prefix) if value and value.startswith(prefix) else None

    async def _is_settled(self, scope: CacheScope) -> bool:
        if self._done[scope] == self._pending[scope]:
            return True
        if scope in self._renewing:
            return False
        self._renewing.add(scope)
        try:
            return await self._renew(scope)
        finally:
            self._renewing.discard(scope)

    async def _renew(self, scope: CacheScope) -> bool:
        """Write a new token, which completes every invalidation that was pending when it was sent."""
        pending, token = self._pending[scope], secrets.token_hex(8).encode()
        if self._database_id is None or not await self._send("SET", self._generation_name(scope), token):
            return False
        self._done[scope] = max(self._done[scope], pending)
        self._tokens[scope] = token
        return self._done[scope] == self._pending[scope]

    async def _get(self, *names: bytes) -> list[bytes | None]:
        """Return values by MGET, in which keys of other types are missing; without a response, all are missing."""
        reply = await self._send("MGET", *names)
        return reply if isinstance(reply, list) and len(reply) == len(names) else [None] * len(names)

    async def _send(self, *command: Any, patience_s: float | None = None, always: bool = False) -> Any:
        """Send one command; return None if the server is unavailable, hangs or returns an error.

        With `always`, send it even if the next attempt is not due.
        """
        async with self._connections:
            if not always and not self._may_send():
                return None
            began_s = time.monotonic()
            try:
                async with _deadline(patience_s or self._patience_s):
                    reply = await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
            except ResponseError as error:
                if command[0] != "EVAL":
                    return self._failed(error, began_s)
                if not self._scripts_refused:  # it denies scripts or is out of memory, but responds
                    logger.warning(
                        "the cache refuses to run scripts (%s); each collector applies rate limits by itself",
                        reason_of(error, self._url),
                    )
                    self._scripts_refused = True
                return None
            except Exception as error:  # noqa: BLE001 - for malformed responses redis-py raises ValueError, IndexError and more
                return self._failed(error, began_s)
            self._retry_at = None
            if command[0] == "SET":
                self._worked()
            return reply

    def _failed(self, error: Exception, began_s: float) -> None:
        """Note a failure of a command that was sent at `began_s`; log the loss, or one refusal a minute."""
        now_s = self._failed_at_s = time.monotonic()
        self._retry_at = now_s + self._retry_interval_s
        if self._failing_since_s is None:
            self._failing_since_s = began_s
        if self._is_lost:
            return
        if now_s - self._failing_since_s >= self._lost_after_s:
            self._is_lost = True
            logger.warning("the cache is not available (%s); reads go to the database", reason_of(error, self._url))
        elif isinstance(error, ResponseError) and now_s - self._refusal_logged_at_s >= REFUSAL_LOG_INTERVAL_S:
            self._refusal_logged_at_s = now_s
            logger.warning("the cache refuses a command (%s); reads go to the database", reason_of(error, self._url))

    def _worked(self) -> None:
        """Note a write that succeeded; a lost cache is back once nothing has failed for a while."""
        if self._is_lost and time.monotonic() - self._failed_at_s < self._lost_after_s:
            return
        self._failing_since_s = None
        if self._is_lost:
            self._is_lost = False
            logger.warning("the cache is available again")

    def _may_send(self) -> bool:
        if self._retry_at is not None:
            now = time.monotonic()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._retry_interval_s  # one caller tries; the others do without until it succeeds
        return True

    async def _identify_server(self, connection: Any) -> None:
        """Read the server's run id on a new connection; a server without one counts as a different one each time."""
        await connection.on_connect()
        await connection.send_command("INFO", "server")
        try:
            match = re.search(rb"run_id:(\w+)", await connection.read_response())
        except ResponseError:
            match = None
        if match is None or match[1] != self._run_id:
            self._run_id = match[1] if match else None
            for scope in CacheScope:
                self._pending[scope] += 1

    def _generation_name(self, scope: CacheScope) -> bytes:
        return f"brain:{self._database_id}:gen:{scope}".encode()

    def _name(self, scope: CacheScope, token: bytes, key: str) -> bytes:
        return f"brain:{self._database_id}:{scope}:".encode() + token + b":" + key.encode(errors="surrogatepass")


@asynccontextmanager
async def _deadline(seconds: float) -> AsyncIterator[None]:
    """Like asyncio.timeout, in two halves: a stall of the loop, with responses unread, uses up only one of them."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        second_half = loop.call_later(seconds / 2, lambda: limit.reschedule(loop.time() + seconds / 2))
        try:
            yield
        finally:
            second_half.cancel()
