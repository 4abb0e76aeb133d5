"""The store: events by id and pages; changes of single events; and the connections that all reads share.

Other modules of `read/` and `tail/` build their own statements and run them here, through `search` and `fetch`.
Deadlines, retries on dead connections and the translation of database errors into those of the API are in this file.
A caller has a share of the connections (see `shares`), so one that reads much leaves some to the others.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from weakref import WeakSet

import asyncpg
import msgspec
from sqlalchemy import Select, Text, and_, cast, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.sql.elements import ColumnElement

from brain_collector.counts.journal import hour
from brain_collector.errors import ParameterInvalid, Problem, QueryTooBroad, Unavailable
from brain_collector.query.cursor import Page, Position, position_of
from brain_collector.query.filter import Filter, newest_first
from brain_collector.query.page_bytes import within_bytes
from brain_collector.schema import Event
from brain_collector.settings import Settings
from brain_collector.shares import Slots, current_caller
from brain_collector.storage.connection import GONE, STATEMENT_LOST, connect, deadline, reason_of
from brain_collector.storage.durability import DURABLE
from brain_collector.storage.search_index import ADD_CHANGED
from brain_collector.storage.tables import event_deltas, system_events

_columns: Final = system_events.c
INDEXED: Final = frozenset({"event_type", "message", "source", "details"})
"""The columns that the search index covers."""
NARROW: Final = "narrow it with `from` and `to`"
"""The advice for a query that is too broad."""
PAGE_SPAN: Final = timedelta(days=1)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
CLOSE_S: Final = 1.0
_NULL: Final = msgspec.Raw(b"null")
_EVENT: Final = select(*(cast(each, Text).label(each.name) if each.name == "details" else each for each in _columns))
"""Selects events with their details as text, which the driver copies less often than JSON."""

Check = Callable[[Event], None]


class Reads(Protocol):
    """Runs reads: the store, or a part of it."""

    async def fetch(self, query: Any) -> list[Any]:
        """Run one statement."""


class Store:
    """Reads from Postgres. Every method may raise `Unavailable`; methods with a filter may raise `QueryTooBroad`."""

    def __init__(self, settings: Settings) -> None:
        self.slots: Final = Slots("queries", "read_connections", settings)
        self._settings = settings
        self._opened: WeakSet[asyncpg.Connection] = WeakSet()
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=self._connect,
            pool_size=settings.read_connections,
            max_overflow=0,
            json_serializer=lambda details: details,  # details are JSON text on the way in ...
            json_deserializer=lambda details: details,  # ... and on the way out
        )
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        """Close every connection, without waiting for a Postgres that hangs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._engine.dispose()

    async def _connect(self) -> asyncpg.Connection:
        connection = await connect(self._settings, statement_timeout_s=self._settings.read_deadline_s)
        self._opened.add(connection)
        return connection

    def abandon(self) -> None:
        """Close every connection of the pool, also those in use: the database is another server now."""
        for connection in list(self._opened):
            connection.terminate()

    async def ping(self) -> None:
        """Wait for a response from Postgres."""
        await self.fetch(text("SELECT 1"))

    async def page(
        self, filter: Filter, *, limit: int, max_bytes: int, offset: int = 0, after: Position | None = None
    ) -> Page:
        """Return the newest events, after `offset` events or after a position.

        They are at most `limit`, and at most `max_bytes` together, but at least one.
        """
        for narrowed in _last_day_first(filter, after):  # the last one is the filter itself
            query = newest_first(narrowed, limit=limit + 1, offset=offset, after=after)
            page = await self.first(query, max_bytes)
            if page.after or len(page.events) > limit:
                break
        if len(page.events) <= limit:
            return page
        return Page(page.events[:limit], position_of(page.events[limit - 1]))

    async def first(self, query: Select[Any], max_bytes: int) -> Page:
        """Return the first events of a query in order, of at most `max_bytes`; and their end if that is not all."""
        rows = await self.search(within_bytes(query, max_bytes), NARROW)
        events = [_event(*columns) for *columns, fits in rows if fits]
        return Page(events, position_of(events[-1]) if len(events) < len(rows) else None)

    async def get(self, event_id: int) -> Event | None:
        """Return an event, or None if there is none with this id."""
        rows = await self.fetch(_EVENT.where(_columns.id == event_id))
        return to_event(rows[0]) if rows else None

    async def update(self, event_id: int, changes: dict[str, Any], check: Check | None = None) -> Event | None:
        """Change columns of an event and the counts with it; return the changed event, or None if there is none.

        `check` gets the current event, under its lock, before anything is changed. Its exceptions end the update.
        """
        await self.ping()  # finds dead connections while a retry is still safe
        async with self._connection(reading=False) as connection:
            before = await _lock(connection, event_id, check)
            if before is None:
                return None
            change = update(system_events).values(changes).returning(system_events)
            query = (change if changes else select(system_events)).where(_same(before))
            after = (await connection.execute(query)).one()
            if INDEXED.intersection(changes):
                await connection.execute(text(ADD_CHANGED).bindparams(id=after.id, timestamp=after.timestamp))
            await _journal(connection, (before, -1), (after, +1))
            await connection.commit()
            return to_event(after)

    async def delete(self, event_id: int, check: Check | None = None) -> bool:
        """Delete an event and subtract it from the counts; return whether it existed. `check` is as for `update`."""
        await self.ping()  # finds dead connections while a retry is still safe
        async with self._connection(reading=False) as connection:
            before = await _lock(connection, event_id, check)
            if before is None:
                return False
            await connection.execute(delete(system_events).where(_same(before)))
            await _journal(connection, (before, -1))
            await connection.commit()
            return True

    async def search(self, query: Any, remedy: str) -> list[Any]:
        """Run a read that a client can make too large: a time-out is then an error of the client, with its `remedy`.

        Raises:
            QueryTooBroad: the query took too long.
        """
        try:
            return await self.fetch(query)
        except _TooSlow:
            raise QueryTooBroad(f"the query took longer than {self._settings.read_deadline_s:g} s; {remedy}") from None

    async def fetch(self, query: Any) -> list[Any]:
        """Run one statement; retry once if the connection from the pool was dead."""
        for attempt in (1, 2):
            try:
                async with self._connection(reading=True) as connection:
                    return list((await connection.execute(query)).all())
            except _StaleConnection:
                if attempt == 2:
                    raise
        raise AssertionError

    @asynccontextmanager
    async def _connection(self, *, reading: bool) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for at most `read_deadline_s`, when it is the turn of the caller.

        Raises:
            Unavailable: the caller's turn does not come within `connect_deadline_s`.
        """
        async with (
            self.slots.one_in_turn(current_caller.get(), self._settings.connect_deadline_s),
            self._pooled(reading=reading) as connection,
        ):
            yield connection

    @asynccontextmanager
    async def _pooled(self, *, reading: bool) -> AsyncIterator[AsyncConnection]:
        """Yield a connection of the pool, which is free; turn errors of the database into errors of the API."""
        grace_s = 1.0  # the statement time-out of the server comes first, unless the server hangs
        try:
            # Nothing else bounds the queries that SQLAlchemy sends when it first connects.
            async with asyncio.timeout(2 * self._settings.connect_deadline_s + grace_s):
                connection = await (self._reading if reading else self._engine).connect()
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None
            async with deadline(driver.terminate, self._settings.read_deadline_s + grace_s):
                try:
                    yield connection
                except GONE:
                    await connection.invalidate()
                    raise
                except DBAPIError as error:
                    if isinstance(_cause(error), STATEMENT_LOST):
                        driver.terminate()  # so that the next connection is checked
                        await connection.invalidate()
                    raise
                except Exception as error:
                    if isinstance(error, Problem) or not driver.is_closed():
                        raise
                    await connection.invalidate()  # the driver raises any error on a connection that was closed
                    after_s = self._settings.retry_after_s
                    raise _StaleConnection("the database connection was closed", retry_after_s=after_s) from error
                finally:
                    await connection.close()  # within the deadline: its rollback can hang too
        except DBAPIError as error:
            raise self._translated(error) from error
        except GONE as error:
            why = f"the database is unavailable ({reason_of(error)})"
            raise Unavailable(why, retry_after_s=self._settings.retry_after_s) from error

    def _translated(self, error: DBAPIError) -> Exception:
        cause = _cause(error)
        if isinstance(cause, asyncpg.QueryCanceledError):
            why = f"the database took longer than {self._settings.read_deadline_s:g} s"
            return _TooSlow(why, retry_after_s=self._settings.retry_after_s)
        if isinstance(cause, asyncpg.DataError):
            return ParameterInvalid(f"Postgres does not accept a value: {cause}")
        why = f"the database is unavailable ({reason_of(cause or error)})"
        after_s = self._settings.retry_after_s
        return (_StaleConnection if error.connection_invalidated else Unavailable)(why, retry_after_s=after_s)


def _cause(error: DBAPIError) -> BaseException | None:
    """Return the error of the driver."""
    return error.orig.__cause__ if error.orig is not None else None


class _TooSlow(Unavailable):
    """The statement time-out ended the query."""


class _StaleConnection(Unavailable):
    """The connection had died in the pool; another one may work."""


async def _lock(connection: AsyncConnection, event_id: int, check: Check | None) -> Any:
    """Lock an event and return the columns that the counts depend on, or None if there is no such event.

    The partition is found first, so that only its lock is taken. The caller's COMMIT waits for the disk.
    """
    find = select(_columns.timestamp).where(_columns.id == event_id, text(DURABLE))
    timestamp = await connection.scalar(find)
    if timestamp is None:
        return None
    counted_columns = select(_columns.id, _columns.timestamp, _columns.event_type, _columns.severity)
    query = counted_columns if check is None else select(system_events)
    same = and_(_columns.id == event_id, _columns.timestamp == timestamp)
    row = (await connection.execute(query.where(same).with_for_update())).one_or_none()
    if row is not None and check is not None:
        check(to_event(row))
    return row


def _same(row: Any) -> ColumnElement[bool]:
    return and_(_columns.id == row.id, _columns.timestamp == row.timestamp)


async def _journal(connection: AsyncConnection, *changes: tuple[Any, int]) -> None:
    """Write the deltas of the changed row, unless they cancel out."""
    totals: dict[tuple[datetime, str, str], int] = {}
    for row, n in changes:
        bucket = (hour(row.timestamp), row.event_type, row.severity)
        totals[bucket] = totals.get(bucket, 0) + n
    rows = [
        {"bucket": bucket, "event_type": event_type, "severity": severity, "n": n}
        for (bucket, event_type, severity), n in totals.items()
        if n
    ]
    if rows:
        await connection.execute(insert(event_deltas), rows)


def _last_day_first(filter: Filter, after: Position | None) -> list[Filter]:
    """Return the filter for the last day before the position, then the filter itself.

    Usually the last day fills the page, and for one day Postgres plans two partitions instead of all.
    """
    ends = [moment for moment in (filter.until, after and after.timestamp) if moment]
    end = min(ends, default=datetime.now(UTC))
    if filter.ids or end - _EARLIEST < PAGE_SPAN or (filter.since and filter.since >= end - PAGE_SPAN):
        return [filter]
    return [msgspec.structs.replace(filter, since=end - PAGE_SPAN), filter]


def to_event(row: Any) -> Event:
    """Return the event of a row with the columns of `system_events`."""
    return _event(*row)


def _event(
    id: int,
    event_type: str,
    severity: str,
    message: str,
    details: str | None,
    source: str | None,
    timestamp: datetime,
    created_at: datetime,
) -> Event:
    raw = _NULL if details is None else msgspec.Raw(details)
    return Event(id, event_type, severity, message, raw, source, timestamp, created_at)
