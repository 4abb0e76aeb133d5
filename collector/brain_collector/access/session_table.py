"""The table of browser sessions: all of its SQL, and how sessions begin and end.

They have a connection of their own: callers without the scope `admin` cause these statements, and an administrator who
revokes an API key must not wait for them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from brain_collector.access.keyring import Keyring
from brain_collector.access.session import Session, is_token, new_token
from brain_collector.errors import Unavailable
from brain_collector.http.scope import Caller
from brain_collector.settings import Settings
from brain_collector.shares import SharedAmount
from brain_collector.storage.connection import Link, or_unavailable

"""Maximum time of a change, and of waiting for its turn."""
MAX_CHANGES: Final = 64
"""Maximum number of changes that are made or wait; each API key that logs in, and each address, has a share of it."""
MAX_SESSIONS: Final = 100
"""Maximum number of browser sessions of one API key; the next one ends the oldest."""

_LIVE: Final = """
    SELECT sha256, api_key_id, scheme, began_at FROM sessions WHERE began_at > now() - make_interval(days => $1)
"""

_BEGIN: Final = "INSERT INTO sessions (sha256, api_key_id, scheme, began_at) VALUES ($1, $2, $3, $4)"

_FORGET: Final = """
    DELETE FROM sessions WHERE began_at <= now() - make_interval(days => $1) OR sha256 = ANY(ARRAY(
        SELECT sha256 FROM sessions WHERE api_key_id = $2 ORDER BY began_at DESC OFFSET $3
    ))
    RETURNING sha256
"""

_END: Final = "DELETE FROM sessions WHERE sha256 = ANY ($1)"


class SessionTable:
    """The table, and the sessions of the keyring. `begin` and `end` may raise `Unavailable`."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._settings = settings
        self._keyring = keyring
        self._link = Link(settings, deadline_s=settings.internal_deadline_s)
        self._lock = asyncio.Lock()
        self._changes = SharedAmount(MAX_CHANGES, settings.caller_share)
        self._changed_meanwhile: dict[bytes, Session | None] | None = None  # None: no read is under way

    async def read(self, connection: asyncpg.Connection) -> None:
        """Fill the keyring from the table, which may have been read before a change that was made here meanwhile."""
        self._changed_meanwhile = {}
        try:
            rows = await connection.fetch(_LIVE, self._settings.session_life_days)
            self._keyring.load_sessions(Session(*row) for row in rows)
            self._keyring.change_sessions(self._changed_meanwhile)
        finally:
            self._changed_meanwhile = None

    async def begin(self, caller: Caller, scheme: str) -> str:
        """Begin a browser session of a caller that has just shown its API key; return its token."""
        token = new_token()
        session = self._keyring.new_session(caller, token, scheme)
        async with self._turn(caller.name) as connection:
            await connection.execute(_BEGIN, *session)
            ended = await connection.fetch(_FORGET, self._settings.session_life_days, session.api_key_id, MAX_SESSIONS)
            self._change({session.sha256: session, **{row["sha256"]: None for row in ended}})
        return token

    async def end(self, token: str, address: str) -> None:
        """End a browser session, unless it has ended. When this returns, this collector refuses its token."""
        if not is_token(token):
            return
        hashes = self._keyring.session_hashes(token)
        async with self._turn(address) as connection:  # the session may have begun elsewhere just now
            await connection.execute(_END, hashes)
            self._change(dict.fromkeys(hashes))

    def abort(self) -> None:
        """Abort the statement that is running."""
        self._link.abort()

    async def close(self) -> None:
        """Close the connection."""
        await self._link.close()

    def _change(self, changes: dict[bytes, Session | None]) -> None:
        self._keyring.change_sessions(changes)
        if self._changed_meanwhile is not None:
            self._changed_meanwhile |= changes

    @asynccontextmanager
    async def _turn(self, sharer: str) -> AsyncIterator[asyncpg.Connection]:
        """Yield the connection when it is free."""
        if self._changes.obstacle(sharer, 1) is not None:
            raise Unavailable(
                f"too many users log in or out; try again in {self._settings.retry_after_s} s",
                retry_after_s=self._settings.retry_after_s,
                answer_after_s=self._settings.admission_wait_s,
            )
        self._changes.take(sharer, 1)
        try:
            with or_unavailable(self._settings.retry_after_s):
                async with asyncio.timeout(self._settings.internal_deadline_s):
                    await self._lock.acquire()
                try:
                    async with self._link.use() as connection:
                        yield connection
                finally:
                    self._lock.release()
        finally:
            self._changes.take(sharer, -1)
