"""The only write path: submissions in, acknowledgements after COMMIT out (group commit).

A handler submits its rows and waits. A few writer tasks each take a group of submissions (`gathering`) and write it in
one transaction (`transaction`). The queue has only requests that wait for their response; if the database is
unavailable, they are refused at once.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from brain_collector.counts.journal import deltas_of
from brain_collector.errors import IdempotencyKeyReused, Unavailable
from brain_collector.ingest.duplicates import Verdict, compare, key_of_caller, request_hash
from brain_collector.ingest.event_ids import EventIds
from brain_collector.ingest.gathering import Gathering
from brain_collector.ingest.rows import join_rows
from brain_collector.ingest.submission import RowsRejected, Stored, Submission
from brain_collector.ingest.transaction import (
    ROW_ERRORS,
    Batch,
    Outcome,
    commit,
    find_rejected,
)
from brain_collector.metrics import COMMIT_SECONDS, DUPLICATES, GROUP_ROWS, KEYS_TAKEN, RETRIES, Metrics
from brain_collector.settings import Settings
from brain_collector.storage import partitions
from brain_collector.storage.connection import GONE, Link, reason_of
from brain_collector.storage.hash_keys import hash_key
from brain_events.wire import new_key

ATTEMPTS: Final = 4
DRAIN_S: Final = 0.5

logger: Final = logging.getLogger(__name__)
_CONFLICTS: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)

_Batches = list[tuple[Batch, list[Submission]]]
"""The batches of a transaction, and the submissions in each."""


class Watcher(Protocol):
    """Observes whether the database accepts writes."""

    def database_up(self, began_s: float) -> None:
        """Note that a transaction that began at this time (monotonic) was committed."""

    def database_down(self, reason: str, began_s: float) -> None:
        """Note that it was not: the database is down, full or overloaded."""


class Writer:
    """Takes submissions and writes them. Each task that runs `run()` writes one transaction at a time."""

    def __init__(
        self,
        settings: Settings,
        watcher: Watcher,
        invalidate: Callable[[], Awaitable[None]],
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._watcher = watcher
        self._invalidate = invalidate
        self._metrics = metrics
        self._gathering = Gathering(settings.group_rows)
        self._ids = EventIds()
        self._hash_key = b""
        self._links: list[Link] = []
        self._is_draining = False  # then submissions that cannot be written at once fail

    @property
    def waiting(self) -> int:
        """The number of submissions that no task has taken yet."""
        return self._gathering.waiting

    async def submit(self, submission: Submission) -> Stored:
        """Return once the rows are committed, by this or an earlier request with the same idempotency key.

        Raises:
            Unavailable: the rows were not committed within `write_deadline_s`.
            IdempotencyKeyReused: this caller used the key with a different body.
            RowsRejected: Postgres rejected all rows.
        """
        self._gathering.put(submission)
        timer = asyncio.get_running_loop().call_later(self._settings.write_deadline_s, self._give_up, submission)
        try:
            return await submission.stored
        finally:
            timer.cancel()

    def _give_up(self, submission: Submission) -> None:
        """Fail a submission at its deadline: if no writer has begun it, it is not written."""
        submission.settle(self._unavailable(f"no commit within {self._settings.write_deadline_s:g} s"))

    async def run(self) -> None:
        """Write groups until `close`, and then those submitted before it, if Postgres responds in time."""
        link = Link(self._settings)
        self._links.append(link)
        repeated: list[Submission] = []
        is_closing = False
        try:
            while repeated or not is_closing:
                repeated, is_closing = await self._write_next(link, repeated, is_closing=is_closing)
        finally:
            await link.close()

    async def _write_next(
        self, link: Link, repeated: list[Submission], *, is_closing: bool
    ) -> tuple[list[Submission], bool]:
        """Write the next group, and keep nothing of it; return what `next_group` needs for the one after it."""
        async with self._gathering.next_group(repeated, is_closing=is_closing) as group:
            pending = [submission for submission in group.submissions if not submission.stored.done()]
            if pending:
                await self._write(link, pending)
            return group.repeated, group.is_last

    def close(self) -> None:
        """End every writer once it has written what is waiting."""
        self._gathering.close(self._settings.writers)

    def drain(self) -> None:
        """Allow `DRAIN_S` to write what is waiting; then fail the rest at once."""
        asyncio.get_running_loop().call_later(DRAIN_S, self._abort)

    def _abort(self) -> None:
        self._is_draining = True
        self.abandon()

    def abandon(self) -> None:
        """Close the connections that are in use: their transactions are tried again on new ones."""
        for link in self._links:
            link.abandon()

    async def _write(self, link: Link, group: list[Submission]) -> None:
        """Write a group and settle every submission of it, whatever happens."""
        began_s = time.monotonic()
        try:
            for submission in await self._write_in_one(link, group):
                submission.is_key_taken = True
                if not submission.stored.done():
                    await self._write(link, [submission])
        except (*ROW_ERRORS, asyncpg.LockNotAvailableError) as error:
            if len(group) > 1:  # one of them is the cause; write the others without it
                for submission in group:
                    await self._write(link, [submission])
            elif isinstance(error, ROW_ERRORS):
                await self._write_storable(link, group[0])
            else:
                self._fail(group, "another request with the same Idempotency-Key, or a migration, holds a lock")
        except (*GONE, asyncpg.PostgresError) as error:
            self._database_lost(group, error, began_s)
        except Exception as error:
            logger.exception("a group of %d submissions could not be written", len(group))
            for submission in group:
                submission.settle(error)

    async def _write_in_one(self, link: Link, group: list[Submission]) -> list[Submission]:
        """Write the group in one transaction; retry it, with the same keys and ids, while its outcome is unknown.

        Return the submissions whose idempotency key is taken by another caller: nothing of them is stored yet.

        Raises:
            LockNotAvailableError, ROW_ERRORS: nothing of the group is stored, so it may be written in another way.
        """
        batches: _Batches = []
        is_outcome_unknown = False  # a transaction of this group may have been, or may yet be, committed
        give_up_at_s = time.monotonic() + self._settings.write_deadline_s / 2
        for attempt in range(ATTEMPTS):
            if self._is_draining:
                break
            was_open = link.is_open
            try:
                async with link.use() as connection:
                    await self._ids.enter(connection)
                    batches = batches or await self._batches(connection, group, is_new_connection=not was_open)
                    began_s = time.monotonic()
                    outcomes = await commit(connection, [batch for batch, _ in batches])
            except _CONFLICTS:
                self._metrics.add(RETRIES, "conflict")
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, no secret
            except asyncpg.CheckViolationError:  # no partition for its day: all collectors were stopped for long
                self._metrics.add(RETRIES, "partition")
                async with link.use() as connection:
                    await partitions.ensure(connection, self._settings)
            except asyncpg.LockNotAvailableError:
                if not is_outcome_unknown:
                    raise
                break  # its own first attempt holds the lock: new keys would store it twice
            except GONE:
                is_outcome_unknown = True
                if not was_open or attempt or time.monotonic() > give_up_at_s:
                    raise
                self._metrics.add(RETRIES, "connection")
            else:
                self._metrics.observe(COMMIT_SECONDS, time.monotonic() - began_s)
                self._metrics.observe(GROUP_ROWS, sum(batch.rows.n for batch, _ in batches))
                return await self._acknowledge(batches, outcomes, began_s)
        self._fail(group, "the transaction could not be completed")
        return []

    async def _acknowledge(self, batches: _Batches, outcomes: dict[UUID, Outcome], began_s: float) -> list[Submission]:
        """Settle what is stored; return the submissions whose idempotency key is taken by another caller."""
        self._watcher.database_up(began_s)
        await self._invalidate()  # before any response, so that its client reads its own write
        taken: list[Submission] = []
        for batch, submissions in batches:
            outcome = outcomes.get(batch.key)
            verdict = None if outcome is None else compare(batch, outcome)
            if outcome is None:
                self._fail(submissions, "the Idempotency-Key is being deleted")
            elif verdict is Verdict.TAKEN:
                taken += submissions
            elif verdict is Verdict.REUSED:
                assert submissions[0].key_use is not None
                detail = f"{submissions[0].key_use.key} was used with a different body; use a new key"
                submissions[0].settle(IdempotencyKeyReused(detail))
            else:
                if verdict is Verdict.DUPLICATE:
                    self._metrics.add(DUPLICATES)
                _settle(submissions, outcome, is_duplicate=verdict is Verdict.DUPLICATE)
        self._metrics.add(KEYS_TAKEN, n=len(taken))
        return taken

    async def _write_storable(self, link: Link, submission: Submission) -> None:
        """Find the rows that Postgres rejects, and write the others."""
        began_s = time.monotonic()
        try:
            async with link.use() as connection:
                rejected = await find_rejected(connection, submission.rows)
            if rejected:
                await self._write(link, [submission.without(rejected)])
            else:
                self._fail([submission], "Postgres rejected a row, but not on the second attempt")
        except RowsRejected as error:
            submission.settle(error)
        except GONE as error:
            self._database_lost([submission], error, began_s)

    async def _batches(
        self, connection: asyncpg.Connection, group: list[Submission], *, is_new_connection: bool
    ) -> _Batches:
        if is_new_connection or not self._hash_key:  # it may be another database
            self._hash_key = await hash_key(connection, "requests")
        return [await self._batch(connection, part) for part in _by_key(group)]

    async def _batch(
        self, connection: asyncpg.Connection, submissions: list[Submission]
    ) -> tuple[Batch, list[Submission]]:
        first, use = submissions[0], submissions[0].key_use
        rows = join_rows([submission.rows for submission in submissions])
        key = new_key() if use is None else key_of_caller(self._hash_key, use) if first.is_key_taken else use.key
        batch = Batch(
            key=key,
            digest=use.fingerprint.digest if use else 0,
            request_hash=use and request_hash(self._hash_key, use),
            caller=use and use.caller,
            answer=first.answer(),
            first_id=await self._ids.draw(connection, rows.n),
            rows=rows,
            deltas=deltas_of(rows.types, rows.severities, rows.timestamps),
        )
        return batch, submissions

    def _database_lost(self, group: list[Submission], error: Exception, began_s: float) -> None:
        self._watcher.database_down(reason_of(error), began_s)
        self._fail(group, f"the database is not available ({reason_of(error)})")

    def _fail(self, group: list[Submission], reason: str) -> None:
        for submission in group:
            submission.settle(self._unavailable(reason))

    def _unavailable(self, reason: str) -> Unavailable:
        return Unavailable.send_again(reason, self._settings.retry_after_s)


def _by_key(group: list[Submission]) -> list[list[Submission]]:
    """Split a group into batches: all single events without a key together, everything else by itself."""
    singles = [submission for submission in group if submission.key_use is None and submission.rows.n == 1]
    others = [[submission] for submission in group if submission.key_use is not None or submission.rows.n > 1]
    return [singles, *others] if singles else others


def _settle(submissions: list[Submission], outcome: Outcome, *, is_duplicate: bool) -> None:
    first_id = outcome.first_id
    for submission in submissions:
        stored = Stored(
            first_id=first_id,
            created_at=outcome.created_at,
            answer=outcome.answer,
            is_duplicate=is_duplicate,
            is_same_body=outcome.request_hash is not None,
            earliest=outcome.earliest,
            rejected=submission.rejected,
        )
        submission.settle(stored)
        first_id += submission.rows.n
