"""The collector's periodic work: fold the counts, index words, keep partitions ahead, forget old keys, see what is up.

Each loop runs until `stop` is set, is never cancelled in the middle of its work, and outlives a lost database.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

import asyncpg

from brain_collector.cache import Cache
from brain_collector.counts import journal
from brain_collector.health.availability import Availability, Survey
from brain_collector.health.canary import Canary
from brain_collector.ingest import rejected_lines
from brain_collector.settings import Settings
from brain_collector.storage import migrate, partitions, renumber, search_index
from brain_collector.storage.connection import GONE, Link, reason_of

logger: Final = logging.getLogger(__name__)

MONITOR_INTERVAL_S: Final = 1.0
MONITOR_DEADLINE_S: Final = 3.0
RENUMBER_DEADLINE_S: Final = 1_800.0
"""Batches of two weeks can be many, and are renumbered together."""
SURVEY_INTERVAL_S: Final = 5.0
RETRY_INTERVAL_S: Final = 1.0
INDEX_INTERVAL_S: Final = 1.0
LONG_STEP_S: Final = 0.25
"""How long a step of the index may take."""

_AWAY: Final = (*GONE, asyncpg.PostgresError)

_WRITE: Final = "UPDATE jobs SET name = name WHERE name = 'monitor'"

# 16 MiB, gone with the transaction: a small write finds its place on a disk that is full.
_WRITE_MUCH: Final = """
    UPDATE jobs SET name = name WHERE name = 'monitor';
    CREATE TEMP TABLE room ON COMMIT DROP AS SELECT repeat(md5(n::text), 60) FROM generate_series(1, 8192) AS n
"""

_PRUNE_KEYS: Final = """
    WITH job AS MATERIALIZED (SELECT 1 FROM jobs WHERE name = 'maintain' FOR UPDATE SKIP LOCKED)
    DELETE FROM batches WHERE EXISTS (SELECT FROM job) AND ctid = ANY(ARRAY(
        SELECT batches.ctid FROM batches, search_progress AS progress
        WHERE received_at < now() - make_interval(days => $1)
            AND (batches.xid::text::bigint, first_id + n - 1) <= (progress.xid, progress.id)
        LIMIT 10000
    ))
"""


async def every(interval_s: Callable[[], float], work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
    """Do the work, wait, do it again, until `stop`."""
    while not stop.is_set():
        await work()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), interval_s())


@contextmanager
def _told(job: str) -> Iterator[None]:
    """Let a job be done again later; a database that is away is told by the monitor, anything else is logged here."""
    try:
        yield
    except GONE:
        pass
    except asyncpg.PostgresError as error:
        logger.warning("the job %r failed and is tried again: %s", job, reason_of(error))


class Scheduler:
    """The work itself; `loops` gives each piece with its name, for the lifespan to run."""

    def __init__(self, settings: Settings, cache: Cache, availability: Availability, canary: Canary) -> None:
        self._settings = settings
        self._cache = cache
        self._availability = availability
        self._canary = canary
        self._link = Link(settings)
        self._watch_link = Link(settings, deadline_s=MONITOR_DEADLINE_S)
        self._index_link = Link(settings)
        self._renumber_link = Link(settings, deadline_s=RENUMBER_DEADLINE_S)
        self._index_ids = search_index.STEP_IDS
        self._index_rest_s = INDEX_INTERVAL_S
        self._using = asyncio.Lock()

    def loops(self, stop: asyncio.Event) -> dict[str, Awaitable[None]]:
        """Return the loops to run."""
        settings = self._settings
        return {
            "fold": every(lambda: settings.fold_interval_s, self.fold, stop),
            "index": every(lambda: self._index_rest_s, self.index, stop),
            "maintain": every(self._maintain_interval_s, self.maintain, stop),
            "canary": every(lambda: settings.canary_interval_s, self.canary, stop),
            "survey": every(lambda: SURVEY_INTERVAL_S, self.survey, stop),
            "monitor": every(lambda: MONITOR_INTERVAL_S, self.monitor, stop),
        }

    def abort(self) -> None:
        """Break off what is under way: all of it is done again at the next start."""
        self._link.abort()
        self._watch_link.abort()
        self._index_link.abort()
        self._renumber_link.abort()

    async def close(self) -> None:
        """Close the connections."""
        await self._link.close()
        await self._watch_link.close()
        await self._index_link.close()
        await self._renumber_link.close()

    async def fold(self) -> None:
        """Fold the journal of counts, if no other collector is at it."""
        with _told("fold"):
            async with self._using, self._link.use() as connection:
                await journal.fold(connection)

    async def index(self) -> None:
        """Make blocks for the search; as long as there are more to make, rest as long as it took: ingest goes first."""
        if self._availability.schema_problem is not None:
            return
        began_s = time.monotonic()
        is_more = False
        with _told("index"):
            async with self._index_link.use() as connection:
                is_more = await search_index.step(connection, self._index_ids)
        spent_s = time.monotonic() - began_s
        if spent_s > LONG_STEP_S:  # large events; a step that the deadline ends would never be done
            self._index_ids = max(search_index.LEAST_IDS, self._index_ids // 2)
        elif is_more:
            self._index_ids = min(search_index.STEP_IDS, self._index_ids * 2)
        self._index_rest_s = spent_s if is_more else INDEX_INTERVAL_S

    async def canary(self) -> None:
        """Read back what this collector stored of its own; what cannot be read now is read next time."""
        with _told("canary"):
            async with self._using, self._link.use() as connection:
                await self._canary.check(connection)

    async def survey(self) -> None:
        """See how background work fares, on whichever collector it is done."""
        with _told("survey"):
            async with self._using, self._link.use() as connection:
                folded_s_before, journal_rows = await journal.lag(connection)
                index = await search_index.lag(connection)
                ends = await partitions.end(connection)
                self._availability.survey = Survey(time.monotonic(), folded_s_before, journal_rows, index.waiting, ends)

    async def maintain(self) -> None:
        """Check the schema, keep partitions ahead, forget old keys."""
        try:
            async with self._using, self._link.use() as connection:
                problem = await schema_problem(connection)
                is_restored = problem is None and await renumber.is_restored(connection)
            if is_restored:
                await self._renumber()
            if problem is None:
                async with self._using, self._link.use() as connection:
                    await self._prepare(connection)
        except _AWAY as error:
            problem = f"the database could not be prepared ({reason_of(error)})"
        self._availability.schema_problem = problem

    async def _renumber(self) -> None:
        try:
            async with self._renumber_link.use() as connection:
                await renumber.renumber(connection)
        finally:
            await self._renumber_link.close()

    async def _prepare(self, connection: asyncpg.Connection) -> None:
        await partitions.ensure(connection, self._settings)
        await rejected_lines.expire(connection, self._settings)
        with _told("index"):  # a batch that is in no block is not forgotten
            await search_index.step(connection, search_index.LEAST_IDS)
        while await _pruned(connection, self._settings):
            pass

    async def monitor(self) -> None:
        """Ask everything for a sign of life. A lost database is back when it takes writes, and has room for them."""
        began_s = time.monotonic()
        was_up = self._availability.database == "up"
        try:
            async with self._watch_link.use() as connection:
                await (connection.execute("SELECT 1") if was_up else _write(connection))
        except _AWAY as error:
            self._availability.database_down(reason_of(error), began_s)
        else:
            if not was_up:  # a read that began before the database was lost does not bring it back
                self._availability.database_up(began_s)
        self._availability.cache_seen(await self._cache.check())
        self._availability.engines_seen()

    def _maintain_interval_s(self) -> float:
        return RETRY_INTERVAL_S if self._availability.schema_problem else self._settings.maintain_interval_s


async def schema_problem(connection: asyncpg.Connection) -> str | None:
    """Say what is missing; a schema newer than this code is fine, migrations keep the version before running."""
    revision = await migrate.revision_of(connection)
    if revision == migrate.HEAD or (revision is not None and revision not in migrate.KNOWN):
        return None
    found = "has no schema" if revision is None else f"is at revision {revision}"
    return f"the database {found}, this collector needs {migrate.HEAD}: run `brain-events migrate`"


async def _write(connection: asyncpg.Connection) -> None:
    """Write what shows that there is room; where temporary tables are not allowed, write a little."""
    try:
        await connection.execute(_WRITE_MUCH)
    except asyncpg.InsufficientPrivilegeError:
        await connection.execute(_WRITE)


async def _pruned(connection: asyncpg.Connection, settings: Settings) -> bool:
    status = await connection.execute(_PRUNE_KEYS, settings.idempotency_key_life_days)
    return bool(status != "DELETE 0")
