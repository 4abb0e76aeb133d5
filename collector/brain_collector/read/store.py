"""Reads, and changes of single events: filters in, rows out. All SQL of the API that the writer does not run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import msgspec
from sqlalchemy import and_, delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.sql.elements import ColumnElement

from brain_collector.counts.journal import STATISTICS, hour
from brain_collector.counts.totals import totals
from brain_collector.errors import ParameterInvalid, QueryTooBroad, Unavailable
from brain_collector.query.cursor import Position
from brain_collector.query.filter import Filter, newest_first
from brain_collector.schema import Event, Stats
from brain_collector.settings import Settings
from brain_collector.storage.connection import GONE, connect, deadline, reason_of
from brain_collector.storage.search_index import ADD_CHANGED
from brain_collector.storage.tables import event_deltas, system_events

_columns: Final = system_events.c
SEARCHED: Final = frozenset({"event_type", "message", "source", "details"})
"""What a search looks at."""
PAGE_SPAN: Final = timedelta(days=1)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
CLOSE_S: Final = 1.0
_NULL: Final = msgspec.Raw(b"null")

Check = Callable[[Event], None]


class Store:
    """Answers from Postgres. Every method may raise `Unavailable`, and what takes a filter `QueryTooBroad`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=lambda: connect(settings, statement_timeout_s=settings.read_deadline_s),
            pool_size=settings.read_connections,
            max_overflow=0,
            pool_timeout=settings.connect_deadline_s,
            json_serializer=lambda details: details,  # details are JSON text on the way in ...
            json_deserializer=lambda details: details,  # ... and on the way out
        )
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    async def close(self) -> None:
        """Close every connection; a Postgres that hangs is not waited for."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._engine.dispose()

    @property
    def connections_in_use(self) -> int:
        """How many of the pool's connections are at work."""
        pool = self._engine.pool
        return pool.checkedout() if isinstance(pool, AsyncAdaptedQueuePool) else 0

    async def ping(self) -> None:
        """Return when Postgres answers."""
        await self.fetch(text("SELECT 1"))

    async def page(self, wanted: Filter, *, limit: int, offset: int = 0, after: Position | None = None) -> list[Event]:
        """Return up to `limit` events, newest first, after `offset` events or after a position."""
        for narrowed in _from_its_end(wanted, after):  # the last of them is the whole filter
            query = newest_first(narrowed, limit=limit, offset=offset, after=after)
            found = await self.search(query, "narrow it with `from` and `to`")
            if len(found) == limit:
                break
        return [to_event(row) for row in found]

    async def get(self, event_id: int) -> Event | None:
        """Return one event."""
        rows = await self.fetch(select(system_events).where(_columns.id == event_id))
        return to_event(rows[0]) if rows else None

    async def update(self, event_id: int, changes: dict[str, Any], check: Check | None = None) -> Event | None:
        """Change columns of one event, and the counts with it; return it as it is then.

        `check` sees the event as it is, under its lock, before anything is changed; what it raises is raised.
        """
        await self.ping()  # a dead pool shows here, where trying again is safe
        async with self._connection(reading=False) as connection:
            before = await _lock(connection, event_id, check)
            if before is None:
                return None
            change = update(system_events).values(changes).returning(system_events)
            query = (change if changes else select(system_events)).where(_same(before))
            after = (await connection.execute(query)).one()
            if SEARCHED.intersection(changes):
                await connection.execute(text(ADD_CHANGED).bindparams(id=after.id, timestamp=after.timestamp))
            await _journal(connection, (before, -1), (after, +1))
            await connection.commit()
            return to_event(after)

    async def delete(self, event_id: int, check: Check | None = None) -> bool:
        """Delete one event, and take it off the counts; return whether it was there. `check` is as for `update`."""
        await self.ping()  # a dead pool shows here, where trying again is safe
        async with self._connection(reading=False) as connection:
            before = await _lock(connection, event_id, check)
            if before is None:
                return False
            await connection.execute(delete(system_events).where(_same(before)))
            await _journal(connection, (before, -1))
            await connection.commit()
            return True

    async def statistics(self, wanted: Filter | None = None) -> Stats:
        """Return exact counts, as of one snapshot; of a filter, its types, severities and time range are heeded."""
        since = datetime.now(UTC) - timedelta(hours=24)
        if wanted is not None and wanted != Filter():
            rows = await self.search(totals(wanted, since), "let `from` and `to` lie on full hours")
            groups = [(row.event_type, row.severity, int(row.n)) for row in rows]
            recent, last = (int(rows[0].recent), rows[0].last) if rows else (0, None)
        else:
            row = await self._statistics(since, since)
            if row.last is None:
                row = await self._statistics(since, _EARLIEST)
            groups = [(found["event_type"], found["severity"], found["n"]) for found in msgspec.json.decode(row.groups)]
            recent, last = row.recent, row.last
        by_severity: dict[str, int] = {}
        by_type: dict[str, int] = {}
        for event_type, severity, n in groups:
            by_severity[severity] = by_severity.get(severity, 0) + n
            by_type[event_type] = by_type.get(event_type, 0) + n
        return Stats(sum(by_type.values()), by_severity, by_type, recent, last)

    async def _statistics(self, since: datetime, last_since: datetime) -> Any:
        """Return the row; to look for the newest event in every partition takes a quarter of the time."""
        bounds = {"since": since, "first_full_hour": hour(since) + timedelta(hours=1), "last_since": last_since}
        (row,) = await self.fetch(text(STATISTICS).bindparams(**bounds))
        return row

    async def search(self, query: Any, remedy: str) -> list[Any]:
        """Run a read that a client can make too large; the time-out is then the client's to remedy.

        Raises:
            QueryTooBroad: it took too long.
        """
        try:
            return await self.fetch(query)
        except _TooSlow:
            raise QueryTooBroad(f"the query took longer than {self._settings.read_deadline_s:g} s; {remedy}") from None

    async def fetch(self, query: Any) -> list[Any]:
        """Run one statement; once more when the connection turns out to be a dead one of the pool's."""
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
        """Yield a connection for at most `read_deadline_s`, and say what went wrong in the API's terms."""
        grace_s = 1.0  # the server's own statement time-out comes first, unless it hangs
        try:
            # SQLAlchemy's own questions to its first server are bounded by nothing else.
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
                finally:
                    await connection.close()  # within the deadline: what it rolls back can hang too
        except DBAPIError as error:
            raise self._translated(error) from error
        except PoolTimeout:
            raise self._unavailable("every database connection is busy") from None
        except GONE as error:
            raise self._unavailable(f"the database is not available ({reason_of(error)})") from error

    def _translated(self, error: DBAPIError) -> Exception:
        cause = error.orig.__cause__ if error.orig is not None else None
        if isinstance(cause, asyncpg.QueryCanceledError):
            why = f"the database took longer than {self._settings.read_deadline_s:g} s"
            return _TooSlow(why, retry_after_s=self._settings.retry_after_s)
        if isinstance(cause, asyncpg.DataError):
            return ParameterInvalid(f"Postgres refuses a value: {cause}")
        why = f"the database is not available ({reason_of(cause or error)})"
        after_s = self._settings.retry_after_s
        return (_StaleConnection if error.connection_invalidated else Unavailable)(why, retry_after_s=after_s)

    def _unavailable(self, why: str) -> Unavailable:
        return Unavailable(why, retry_after_s=self._settings.retry_after_s)


class _TooSlow(Unavailable):
    """The statement time-out ended it."""


class _StaleConnection(Unavailable):
    """The connection had died in the pool; another may do."""


async def _lock(connection: AsyncConnection, event_id: int, check: Check | None) -> Any:
    """Find the partition first, so that only its lock is taken, then lock the row; return what the counts depend on."""
    moment = await connection.scalar(select(_columns.timestamp).where(_columns.id == event_id))
    if moment is None:
        return None
    counted = select(_columns.id, _columns.timestamp, _columns.event_type, _columns.severity)
    query = counted if check is None else select(system_events)
    place = and_(_columns.id == event_id, _columns.timestamp == moment)
    row = (await connection.execute(query.where(place).with_for_update())).one_or_none()
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


def _from_its_end(wanted: Filter, after: Position | None) -> list[Filter]:
    """Return the filter for the last day that a page may begin on, then the filter itself.

    A page that is full with the first is the page. It is usual, and for a day Postgres plans two partitions, not all.
    """
    ends = [moment for moment in (wanted.until, after and after.timestamp) if moment]
    end = min(ends, default=datetime.now(UTC))
    if wanted.ids or end - _EARLIEST < PAGE_SPAN or (wanted.since and wanted.since >= end - PAGE_SPAN):
        return [wanted]
    return [msgspec.structs.replace(wanted, since=end - PAGE_SPAN), wanted]


def to_event(row: Any) -> Event:
    details = _NULL if row.details is None else msgspec.Raw(row.details)
    return Event(row.id, row.event_type, row.severity, row.message, details, row.source, row.timestamp, row.created_at)
