"""The table of API keys: all of its SQL, over one connection, and the refresh of the keyring."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from brain_collector.access.keyring import BOOTSTRAP, OPEN, SCOPES, Key, Keyring, Secret, key_prefix
from brain_collector.access.session_table import SessionTable
from brain_collector.errors import ApiKeyNotFound, TooManyApiKeys, Unauthorized
from brain_collector.http.scope import Caller
from brain_collector.schema import ApiKey, KeyCreate
from brain_collector.settings import Settings
from brain_collector.storage.connection import DATABASE_ERRORS, Link, or_unavailable
from brain_collector.storage.durability import DURABLE

RELOAD_INTERVAL_S: Final = 0.5
"""Minimum interval between two reads that unknown sessions cause."""
RETRY_INTERVAL_S: Final = 0.5

logger: Final = logging.getLogger(__name__)


# Keys that expired recently are included, so that their error says so; revoked ones count as unknown.
_LIVE: Final = """
    SELECT id, prefix, sha256, scopes, expires_at FROM api_keys
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now() - interval '1 day')
"""

_EVER_CREATED: Final = "SELECT EXISTS (SELECT FROM api_keys)"

# By the clock: `now()` is when the transaction began, and it may have waited for the lock since then.
_IS_ADMIN: Final = """
    SELECT EXISTS (
        SELECT FROM api_keys WHERE prefix = $1 AND 'admin' = ANY (scopes) AND revoked_at IS NULL
            AND (expires_at IS NULL OR expires_at > clock_timestamp())
    )
"""

_COLUMNS: Final = "id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at"

# Excludes changes by others, also by collectors that do not take it, until the end of the transaction.
_LOCK: Final = "LOCK TABLE api_keys IN SHARE ROW EXCLUSIVE MODE"

_INSERT: Final = f"""
    INSERT INTO api_keys (name, prefix, sha256, scopes, expires_at)
    SELECT $1, $2, $3, $4::text[], now() + make_interval(secs => $5::double precision)
    WHERE $6 > (
        SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    ) AND {DURABLE}
    RETURNING {_COLUMNS}
"""

_LIST: Final = f"SELECT {_COLUMNS} FROM api_keys ORDER BY id"

_REVOKE: Final = f"""
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1 AND {DURABLE}
    RETURNING revoked_at = now() AS is_newly_revoked, {_COLUMNS}
"""

_WRITE_USES: Final = """
    UPDATE api_keys SET last_used_at = used.at
    FROM unnest($1::bigint[], $2::timestamptz[]) AS used (id, at)
    WHERE api_keys.id = used.id AND (last_used_at IS NULL OR last_used_at <= used.at - interval '1 minute')
"""


class KeyTable:
    """The table, and the keyring that is filled from it. Every method except `refresh` may raise `Unavailable`."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self.sessions: Final = SessionTable(settings, keyring)
        self._link = Link(settings, deadline_s=settings.internal_deadline_s)
        self._lock = asyncio.Lock()
        self._has_warned = False
        self._reload_lock = asyncio.Lock()
        self._reloaded_at_s = 0.0
        keyring.reload = self._reload

    @property
    def is_unavailable(self) -> bool:
        """Whether the last attempt to read the table failed."""
        return self._keyring.is_table_unavailable

    def caller(self, api_key: str) -> Caller:
        """Return the caller with this API key; see `Keyring.caller`."""
        return self._keyring.caller(api_key)

    def interval_s(self) -> float:
        """Return how long to wait before the next `refresh`."""
        refresh_s = self._settings.api_key_refresh_s
        return min(refresh_s, RETRY_INTERVAL_S) if self.is_unavailable else refresh_s

    async def refresh(self) -> None:
        """Fill the keyring from the table, then write when keys were used."""
        try:
            async with self._lock, self._link.use() as connection:
                await self._fill(connection)
                if uses := self._keyring.unwritten_uses():
                    await connection.execute(_WRITE_USES, list(uses), list(uses.values()))
                    self._keyring.mark_written(uses)
        except DATABASE_ERRORS:
            self._keyring.mark_table_unavailable()
        if self._keyring.has_no_valid_key and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "API keys are required, and none exists: set BRAIN_COLLECTOR_API_KEY, and create the first one with it"
            )

    async def create(self, description: KeyCreate, secret: Secret, caller: Caller) -> ApiKey:
        """Store a new API key. When this returns, it is valid on this collector.

        Raises:
            TooManyApiKeys: the maximum is reached.
            Unauthorized: see `_changing`.
        """
        scopes = [scope for scope in SCOPES if scope in description.scopes]
        values = (description.name, secret.prefix, secret.sha256, scopes, description.expires_in_s)
        async with self._changing(caller) as connection:
            row = await connection.fetchrow(_INSERT, *values, self._settings.max_api_keys)
        if row is None:
            raise TooManyApiKeys(
                f"there are {self._settings.max_api_keys} live API keys, which is the maximum; revoke some, or "
                "raise BRAIN_COLLECTOR_MAX_API_KEYS"
            )
        return _api_key(row)

    async def all(self) -> list[ApiKey]:
        """Return every API key, including revoked and expired ones, oldest first."""
        async with self._connection() as connection:
            return [_api_key(row) for row in await connection.fetch(_LIST)]

    async def revoke(self, key_id: int, caller: Caller) -> tuple[ApiKey, bool]:
        """Revoke an API key; return whether it was not revoked before. When this returns, this collector refuses it.

        Raises:
            ApiKeyNotFound: there is no API key with this id.
            Unauthorized: see `_changing`.
        """
        async with self._changing(caller) as connection:
            row = await connection.fetchrow(_REVOKE, key_id)
        if row is None:
            raise ApiKeyNotFound(f"there is no API key {key_id}; GET /api/keys lists them")
        return _api_key(row), row["is_newly_revoked"]

    async def _reload(self) -> None:
        """Refresh, once for all requests that wait for it."""
        asked_at_s = time.monotonic()
        async with self._reload_lock:
            if self._reloaded_at_s > asked_at_s:
                return  # it began after this request
            await asyncio.sleep(max(0.0, self._reloaded_at_s + RELOAD_INTERVAL_S - time.monotonic()))
            self._reloaded_at_s = time.monotonic()
            await self.refresh()

    def abort(self) -> None:
        """Abort the statements that are running."""
        self.sessions.abort()
        self._link.abort()

    async def close(self) -> None:
        """Close the connections."""
        await self.sessions.close()
        await self._link.close()

    async def _fill(self, connection: asyncpg.Connection) -> None:
        keys = [
            Key(row["id"], row["prefix"], row["sha256"], frozenset(row["scopes"]), row["expires_at"])
            for row in await connection.fetch(_LIVE)
        ]
        ever_created = bool(keys) or await connection.fetchval(_EVER_CREATED)
        await self.sessions.read(connection)
        self._keyring.load(keys, ever_created=ever_created)

    @asynccontextmanager
    async def _changing(self, caller: Caller) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection in a transaction that alone changes API keys; then fill the keyring.

        The lock decides which change comes first, not the keyring, which may be older: nobody whose API key was revoked
        before this transaction changes anything.

        Raises:
            Unauthorized: the caller may not change API keys any more.
        """
        async with self._connection() as connection:
            async with connection.transaction():
                await connection.execute(_LOCK)
                refusal = await _refusal(connection, caller)
                if refusal is None:
                    yield connection
            await self._fill(connection)
        if refusal is not None:
            raise refusal

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        with or_unavailable(self._settings.retry_after_s):
            async with self._lock, self._link.use() as connection:
                yield connection


async def _refusal(connection: asyncpg.Connection, caller: Caller) -> Unauthorized | None:
    """Return why a caller may not change API keys, or None: the bootstrap key always may, no key only at first."""
    if caller == BOOTSTRAP:
        return None
    if caller == OPEN:
        is_late = await connection.fetchval(_EVER_CREATED)
        return Unauthorized("an API key was created meanwhile, so this collector requires one") if is_late else None
    prefix = key_prefix(caller)
    if await connection.fetchval(_IS_ADMIN, prefix):
        return None
    return Unauthorized(f"the API key be_{prefix} was revoked, has expired or lost the scope admin meanwhile")


def _api_key(row: Any) -> ApiKey:
    return ApiKey(**{name: row[name] for name in ApiKey.__struct_fields__})
