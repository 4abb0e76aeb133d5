"""The one write path: submissions in, acknowledgements after COMMIT out (group commit).

A handler submits its rows and waits. A few writer tasks each take what has come in, up to `group_rows`,
and write it in one transaction. Nothing is queued but requests that wait for their answer: when the
database is away they are told so at once.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from brain_collector.counts.journal import deltas_of
from brain_collector.errors import IdempotencyKeyReused, Unavailable
from brain_collector.ingest.decode import joined
from brain_collector.ingest.submission import RowsRejected, Stored, Submission
from brain_collector.ingest.transaction import REFUSED, Batch, Outcome, commit, find_refused, next_id_block
from brain_collector.metrics import COMMIT_SECONDS, DUPLICATES, GROUP_ROWS, RETRIES, Metrics
from brain_collector.settings import ID_BLOCK, Settings
from brain_collector.storage import partitions
from brain_collector.storage.connection import GONE, Link, reason_of
from brain_events.wire import new_key

ATTEMPTS: Final = 4
DRAIN_S: Final = 0.5
FEW_ROWS: Final = 20
GATHER_S: Final = 0.01
"""How long a request of few rows waits for the transaction of others: one of twice the size costs less than two."""

logger: Final = logging.getLogger(__name__)
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class Watcher(Protocol):
    """Who wants to know how the database fares."""

    def database_up(self, began_s: float) -> None:
        """A transaction that began at that time (monotonic) went through."""

    def database_down(self, reason: str, began_s: float) -> None:
        """It did not: the database is away, full or overloaded."""


class Writer:
    """Takes submissions and writes them. Run `run()` in as many tasks as there shall be transactions side by side."""

    def __init__(
        self,
        settings: Settings,
        watcher: Watcher,
        invalidate: Callable[[], Awaitable[None]],
        metrics: Metrics | None = None,
    ) -> None:
        self._settings = settings
        self._watcher = watcher
        self._invalidate = invalidate
        self._metrics = metrics or Metrics()
        self._queue: asyncio.Queue[Submission | None] = asyncio.Queue()
        self._few_at_a_time = asyncio.Lock()
        self._had_company = False  # the last group was of several submissions: another may be, if it waits for them
        self._next_id = self._end_id = 0
        self._links: list[Link] = []
        self._draining = False  # out of patience: what cannot be written at once fails

    @property
    def waiting(self) -> int:
        """How many submissions no task has taken yet."""
        return self._queue.qsize()

    async def submit(self, submission: Submission) -> Stored:
        """Return once the rows are committed, or were before under the same key.

        Raises:
            Unavailable: not committed within `write_deadline_s`.
            IdempotencyKeyReused: the key was used with another body.
            RowsRejected: Postgres would take none of the rows.
        """
        self._queue.put_nowait(submission)
        timer = asyncio.get_running_loop().call_later(self._settings.write_deadline_s, self._give_up, submission)
        try:
            return await submission.stored
        finally:
            timer.cancel()

    def _give_up(self, submission: Submission) -> None:
        """Let its sender go: a submission that has not been begun by then need not be."""
        submission.settle(self._unavailable(f"no commit within {self._settings.write_deadline_s:g} s"))

    async def run(self) -> None:
        """Write groups until `close`; what was submitted before it is still written, if Postgres answers in time."""
        link = Link(self._settings)
        self._links.append(link)
        held: list[Submission] = []
        closing = False
        try:
            while held or not closing:
                first: Sequence[Submission | None] = held or [await self._queue.get()]
                async with self._gathering(first[0]):
                    group, held, closing = self._take(first, closing=closing)
                    self._had_company = len(group) > 1
                    waiting = [submission for submission in group if not submission.stored.done()]
                    if waiting:
                        await self._write(link, waiting)
        finally:
            await link.close()

    def close(self) -> None:
        """Let every writer end once it has written what is there."""
        for _ in range(self._settings.writers):
            self._queue.put_nowait(None)

    def drain(self) -> None:
        """Give what is there `DRAIN_S` to be written; what is not by then fails at once."""
        asyncio.get_running_loop().call_later(DRAIN_S, self._abort)

    def _abort(self) -> None:
        self._draining = True
        for link in self._links:
            link.abort()

    @asynccontextmanager
    async def _gathering(self, first: Submission | None) -> AsyncIterator[None]:
        """Let requests of few rows gather behind the transaction that writes others of them, but not for long."""
        if first is None or len(first.rows.types) > FEW_ROWS:
            yield
            return
        alone = False
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                alone = await self._few_at_a_time.acquire()
                if self._had_company:
                    await self._all_in()
        try:
            yield
        finally:
            if alone:
                self._few_at_a_time.release()

    async def _all_in(self) -> None:
        """Let the loop bring in the requests that are here already, until it brings no more.

        Most are from clients whom the transaction before has answered. Without this, the first of them is written by
        itself, and the others take turns in two groups of half the size.
        """
        n = -1
        while n < (n := self._queue.qsize()):
            await asyncio.sleep(0)  # reads what the sockets have
            await asyncio.sleep(0)  # begins the requests in it

    def _take(
        self, first: Sequence[Submission | None], *, closing: bool
    ) -> tuple[list[Submission], list[Submission], bool]:
        """Take what is there, up to `group_rows`; a second submission under a key of the group is held back."""
        group: list[Submission] = []
        repeated: list[Submission] = []
        keys: set[UUID] = set()
        rows = 0
        incoming: deque[Submission | None] = deque(first)
        while incoming:
            submission = incoming.popleft()
            if submission is None:
                return group, repeated, True
            if submission.key in keys:
                repeated.append(submission)
            else:
                keys.update([submission.key] if submission.key else [])
                group.append(submission)
                rows += len(submission.rows.types)
            # Once closing, what is left in the queue is for the other writers: the word to end, one for each.
            if not (incoming or closing) and rows < self._settings.group_rows and not self._queue.empty():
                incoming.append(self._queue.get_nowait())
        return group, repeated, closing

    async def _write(self, link: Link, group: list[Submission]) -> None:
        """Write a group and settle every submission of it, whatever happens."""
        began_s = time.monotonic()
        try:
            await self._write_whole(link, group)
        except (*REFUSED, asyncpg.LockNotAvailableError) as error:
            if len(group) > 1:  # one of them is to blame; the others shall not suffer for it
                for submission in group:
                    await self._write(link, [submission])
            elif isinstance(error, REFUSED):
                await self._write_accepted(link, group[0])
            else:
                self._fail(group, "a lock is held by another request with the same Idempotency-Key, or by a migration")
        except (*GONE, asyncpg.PostgresError) as error:
            self._gone(group, error, began_s)
        except Exception as error:
            logger.exception("a group of %d submissions could not be written", len(group))
            for submission in group:
                submission.settle(error)

    async def _write_whole(self, link: Link, group: list[Submission]) -> None:
        """Write the group in one transaction; start it again, with the same keys and ids, when its outcome is open.

        Raises:
            LockNotAvailableError, REFUSED: nothing of the group is stored, so it may be written otherwise.
        """
        batches: list[tuple[Batch, list[Submission]]] = []
        open_outcome = False  # a transaction of this group may have been, or may yet be, committed
        give_up_at = time.monotonic() + self._settings.write_deadline_s / 2
        for attempt in range(ATTEMPTS):
            if self._draining:
                break
            was_open = link.is_open
            began_s = time.monotonic()
            try:
                async with link.use() as connection:
                    batches = batches or [await self._unit(connection, part) for part in _parts(group)]
                    began_s = time.perf_counter()
                    outcomes = await commit(connection, [batch for batch, _ in batches])
            except _AGAIN:
                self._metrics.add(RETRIES, "conflict")
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, no secret
            except asyncpg.CheckViolationError:  # no partition for its day: they are made ahead, unless all slept
                self._metrics.add(RETRIES, "partition")
                async with link.use() as connection:
                    await partitions.ensure(connection, self._settings)
            except asyncpg.LockNotAvailableError:
                if not open_outcome:
                    raise
                break  # it waited for its own first try: new keys would store it twice
            except GONE:
                open_outcome = True
                if not was_open or attempt or time.monotonic() > give_up_at:
                    raise
                self._metrics.add(RETRIES, "connection")
            else:
                self._metrics.observe(COMMIT_SECONDS, time.perf_counter() - began_s)
                self._metrics.observe(GROUP_ROWS, sum(batch.n for batch, _ in batches))
                return await self._acknowledge(batches, outcomes, began_s)
        self._fail(group, "the transaction could not be completed")
        return None

    async def _acknowledge(
        self, batches: list[tuple[Batch, list[Submission]]], outcomes: dict[UUID, Outcome], began_s: float
    ) -> None:
        self._watcher.database_up(began_s)
        await self._invalidate()  # before any answer: who reads after it, reads its own write
        for batch, submissions in batches:
            found = outcomes.get(batch.key)
            if found is None:
                self._fail(submissions, "the Idempotency-Key is just being forgotten")
            elif found.digest != batch.digest:
                submissions[0].settle(IdempotencyKeyReused(f"{batch.key} came before with another body; use a new key"))
            else:
                duplicate = found.first_id != batch.first_id
                if duplicate:
                    self._metrics.add(DUPLICATES)
                _settle(submissions, found, duplicate=duplicate)

    async def _write_accepted(self, link: Link, submission: Submission) -> None:
        """Find the rows that Postgres will not take, and write the others."""
        began_s = time.monotonic()
        try:
            async with link.use() as connection:
                refused = await find_refused(connection, submission.rows)
            if refused:
                await self._write(link, [submission.without(refused)])
            else:
                self._fail([submission], "Postgres refused a row, and then did not")
        except RowsRejected as error:
            submission.settle(error)
        except GONE as error:
            self._gone([submission], error, began_s)

    async def _unit(
        self, connection: asyncpg.Connection, submissions: list[Submission]
    ) -> tuple[Batch, list[Submission]]:
        first = submissions[0]
        rows = joined([each.rows for each in submissions])
        batch = Batch(
            key=first.key or new_key(),
            digest=first.digest,
            answer=first.answer() if first.key else None,
            first_id=await self._draw_ids(connection, len(rows.types)),
            rows=rows,
            deltas=deltas_of(rows.types, rows.severities, rows.timestamps),
        )
        return batch, submissions

    async def _draw_ids(self, connection: asyncpg.Connection, n: int) -> int:
        """Return the first of n ids in a row; what is left of a block that is too short stays a gap."""
        if self._end_id - self._next_id < n:
            start = await next_id_block(connection)
            self._next_id, self._end_id = start, start + ID_BLOCK
        first = self._next_id
        self._next_id += n
        return first

    def _gone(self, group: list[Submission], error: Exception, began_s: float) -> None:
        self._watcher.database_down(reason_of(error), began_s)
        self._fail(group, f"the database is not available ({reason_of(error)})")

    def _fail(self, group: list[Submission], why: str) -> None:
        for submission in group:
            submission.settle(self._unavailable(why))

    def _unavailable(self, why: str) -> Unavailable:
        after_s = self._settings.retry_after_s
        return Unavailable(f"{why}; send it again in {after_s} s, with the same Idempotency-Key", retry_after_s=after_s)


def _parts(group: list[Submission]) -> list[list[Submission]]:
    """Split a group into what shares a key: all keyless single events together, everything else by itself."""
    singles = [submission for submission in group if submission.key is None and len(submission.rows.types) == 1]
    others = [[submission] for submission in group if submission.key is not None or len(submission.rows.types) > 1]
    return [singles, *others] if singles else others


def _settle(submissions: list[Submission], found: Outcome, *, duplicate: bool) -> None:
    first_id = found.first_id
    for submission in submissions:
        answer = found.answer if duplicate and found.answer is not None else submission.answer()
        submission.settle(Stored(first_id, found.created_at, answer, duplicate))
        first_id += len(submission.rows.types)
