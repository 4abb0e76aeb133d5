"""The table of API keys: all SQL about them, over one connection, and what keeps this collector's ring up to date."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from brain_collector.access.keyring import SCOPES, Key, Keyring, Secret
from brain_collector.errors import ApiKeyNotFound, TooManyApiKeys, Unavailable
from brain_collector.http.scope import Caller
from brain_collector.schema import ApiKey, KeyCreate
from brain_collector.settings import Settings
from brain_collector.storage.connection import GONE, Link, reason_of

DEADLINE_S: Final = 3.0
RETRY_INTERVAL_S: Final = 0.5

logger: Final = logging.getLogger(__name__)

_AWAY: Final = (*GONE, asyncpg.PostgresError)

# Those that expired lately are told so; revoked ones are as good as never made.
_LIVE: Final = """
    SELECT id, prefix, sha256, scopes, expires_at FROM api_keys
    WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now() - interval '1 day')
"""

_EVER_MADE: Final = "SELECT EXISTS (SELECT FROM api_keys)"

_SHOWN: Final = "id, name, prefix, scopes, created_at, expires_at, revoked_at, last_used_at"

_INSERT: Final = f"""
    INSERT INTO api_keys (name, prefix, sha256, scopes, expires_at)
    SELECT $1, $2, $3, $4::text[], now() + make_interval(secs => $5::double precision)
    WHERE $6 > (
        SELECT count(*) FROM api_keys WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    )
    RETURNING {_SHOWN}
"""

_LIST: Final = f"SELECT {_SHOWN} FROM api_keys ORDER BY id"

_REVOKE: Final = f"""
    UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1
    RETURNING revoked_at = now() AS newly, {_SHOWN}
"""

_NOTE_USES: Final = """
    UPDATE api_keys SET last_used_at = used.at
    FROM unnest($1::bigint[], $2::timestamptz[]) AS used (id, at)
    WHERE api_keys.id = used.id AND (last_used_at IS NULL OR last_used_at <= used.at - interval '1 minute')
"""


class KeyTable:
    """The table, and the ring that is filled from it. Every method but `refresh` may raise `Unavailable`."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._link = Link(settings, deadline_s=DEADLINE_S)
        self._using = asyncio.Lock()
        self._warned = False

    @property
    def is_away(self) -> bool:
        """Whether the table could not be read when it was tried last."""
        return self._keyring.is_away

    def caller(self, given: str) -> Caller:
        """Return who has this key, as `Keyring.caller` does."""
        return self._keyring.caller(given)

    def interval_s(self) -> float:
        """Return how long to wait before the next `refresh`."""
        refresh_s = self._settings.api_key_refresh_s
        return min(refresh_s, RETRY_INTERVAL_S) if self.is_away else refresh_s

    async def refresh(self) -> None:
        """Fill the ring from the table, then write which keys were used."""
        try:
            async with self._using, self._link.use() as connection:
                await self._fill(connection)
                if uses := self._keyring.uses():
                    await connection.execute(_NOTE_USES, list(uses), list(uses.values()))
                    self._keyring.uses_written(uses)
        except _AWAY:
            self._keyring.table_away()
        if self._keyring.lacks_any and not self._warned:
            self._warned = True
            logger.warning("keys are needed and there is none: set BRAIN_COLLECTOR_API_KEY, and make the first with it")

    async def create(self, wanted: KeyCreate, secret: Secret) -> ApiKey:
        """Store a new key. It is good here when this returns.

        Raises:
            TooManyApiKeys: there are as many as may be.
        """
        scopes = [scope for scope in SCOPES if scope in wanted.scopes]
        async with self._connection() as connection:
            row = await connection.fetchrow(
                _INSERT,
                wanted.name,
                secret.prefix,
                secret.sha256,
                scopes,
                wanted.expires_in_s,
                self._settings.max_api_keys,
            )
            if row is None:
                raise TooManyApiKeys(
                    f"there are {self._settings.max_api_keys} live keys already; revoke some, "
                    "or raise BRAIN_COLLECTOR_MAX_API_KEYS"
                )
            await self._fill(connection)
        return _shown(row)

    async def all(self) -> list[ApiKey]:
        """Return every key, revoked and expired ones too, oldest first."""
        async with self._connection() as connection:
            return [_shown(row) for row in await connection.fetch(_LIST)]

    async def revoke(self, key_id: int) -> tuple[ApiKey, bool]:
        """Revoke a key, which is refused here when this returns; tell whether it was good until now.

        Raises:
            ApiKeyNotFound: there is none.
        """
        async with self._connection() as connection:
            row = await connection.fetchrow(_REVOKE, key_id)
            if row is None:
                raise ApiKeyNotFound(f"there is no key {key_id}; GET /api/keys lists them")
            await self._fill(connection)
        return _shown(row), row["newly"]

    def abort(self) -> None:
        """Break off what is under way."""
        self._link.abort()

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    async def _fill(self, connection: asyncpg.Connection) -> None:
        keys = [
            Key(row["id"], row["prefix"], row["sha256"], frozenset(row["scopes"]), row["expires_at"])
            for row in await connection.fetch(_LIVE)
        ]
        self._keyring.table_read(keys, ever_made=bool(keys) or await connection.fetchval(_EVER_MADE))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            async with self._using, self._link.use() as connection:
                yield connection
        except _AWAY as error:
            why = f"the database is not available ({reason_of(error)})"
            raise Unavailable(why, retry_after_s=self._settings.retry_after_s) from error


def _shown(row: Any) -> ApiKey:
    return ApiKey(**{name: row[name] for name in ApiKey.__struct_fields__})
