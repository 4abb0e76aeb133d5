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
from collections.abc import Awaitable, Callable
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from brain_collector import partitions
from brain_collector.counts import deltas_of
from brain_collector.database import GONE, Link
from brain_collector.errors import KeyReused, Unavailable
from brain_collector.settings import ID_BLOCK, Settings
from brain_collector.submission import RowsRefused, Stored, Submission
from brain_collector.transaction import REFUSED, Outcome, Unit, commit, find_refused, merged
from brain_events.wire import new_key

ATTEMPTS: Final = 4

logger: Final = logging.getLogger(__name__)
_AGAIN: Final = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_NEXT_BLOCK: Final = "SELECT nextval('system_events_id_seq')"


class Watcher(Protocol):
    """Who wants to know how the database fares."""

    def database_up(self) -> None:
        """A transaction went through."""

    def database_down(self, reason: str) -> None:
        """It is away, full or overloaded."""


class Writer:
    """Takes submissions and writes them. Run `run()` in as many tasks as there shall be transactions side by side."""

    def __init__(self, settings: Settings, watcher: Watcher, invalidate: Callable[[], Awaitable[None]]) -> None:
        self._settings = settings
        self._watcher = watcher
        self._invalidate = invalidate
        self._queue: asyncio.Queue[Submission | None] = asyncio.Queue()
        self._pending_bytes = 0
        self._next_id = self._end_id = 0

    async def submit(self, submission: Submission) -> Stored:
        """Return once the rows are committed, or were before under the same key.

        Raises:
            Unavailable: not committed within `write_deadline_s`, or too much is waiting already.
            KeyReused: the key was used with another body.
            RowsRefused: Postgres would take none of the rows.
        """
        if self._pending_bytes and self._pending_bytes + submission.size > self._settings.max_pending_bytes:
            raise self._unavailable(f"{self._pending_bytes:,} bytes are waiting to be written already")
        self._pending_bytes += submission.size
        self._queue.put_nowait(submission)
        try:
            async with asyncio.timeout(self._settings.write_deadline_s):
                return await asyncio.shield(submission.stored)
        except TimeoutError:
            raise self._unavailable(f"no commit within {self._settings.write_deadline_s:g} s") from None

    async def run(self) -> None:
        """Write groups until `close`; what was submitted before it is still written."""
        link = Link(self._settings)
        held: list[Submission] = []
        closing = False
        try:
            while held or not closing:
                group, held, closing = await self._take(held, closing=closing)
                if group:
                    await self._write(link, group)
                self._pending_bytes -= sum(submission.size for submission in group)
        finally:
            await link.close()

    def close(self) -> None:
        """Let every writer end once it has written what is there."""
        for _ in range(self._settings.writers):
            self._queue.put_nowait(None)

    async def _take(self, held: list[Submission], *, closing: bool) -> tuple[list[Submission], list[Submission], bool]:
        """Wait for one submission and take what else is there; a second one under a key of the group is held back."""
        group: list[Submission] = []
        repeated: list[Submission] = []
        keys: set[UUID] = set()
        rows = 0
        incoming: deque[Submission | None] = deque(held)
        if not incoming:
            incoming.append(await self._queue.get())
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
        try:
            await self._write_whole(link, group)
        except (*REFUSED, asyncpg.LockNotAvailableError) as error:
            if len(group) > 1:  # one of them is to blame; the others shall not suffer for it
                for submission in group:
                    await self._write(link, [submission])
            elif isinstance(error, REFUSED):
                await self._write_accepted(link, group[0])
            else:
                self._fail(group, "another request with the same Idempotency-Key is being written")
        except (*GONE, asyncpg.PostgresError) as error:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            self._watcher.database_down(reason)
            self._fail(group, f"the database is not available ({reason})")
        except Exception as error:
            logger.exception("a group of %d submissions could not be written", len(group))
            for submission in group:
                submission.settle(error)

    async def _write_whole(self, link: Link, group: list[Submission]) -> None:
        """Write the group in one transaction; start it again, with the same keys and ids, when its outcome is open."""
        units: list[tuple[Unit, list[Submission]]] = []
        give_up_at = time.monotonic() + self._settings.write_deadline_s / 2
        for attempt in range(ATTEMPTS):
            was_open = link.is_open
            try:
                async with link.use() as connection:
                    units = units or [await self._unit(connection, part) for part in _parts(group)]
                    outcomes = await commit(connection, [unit for unit, _ in units])
            except _AGAIN:
                await asyncio.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, no secret
            except asyncpg.CheckViolationError:  # no partition for its day: they are made ahead, unless all slept
                async with link.use() as connection:
                    await partitions.ensure(connection, self._settings)
            except GONE:
                if not was_open or attempt or time.monotonic() > give_up_at:
                    raise
            else:
                return await self._acknowledge(units, outcomes)
        self._fail(group, f"the transaction failed {ATTEMPTS} times")
        return None

    async def _acknowledge(self, units: list[tuple[Unit, list[Submission]]], outcomes: dict[UUID, Outcome]) -> None:
        self._watcher.database_up()
        await self._invalidate()  # before any answer: who reads after it, reads its own write
        for unit, submissions in units:
            found = outcomes.get(unit.key)
            if found is None:
                self._fail(submissions, "the Idempotency-Key is just being forgotten")
            elif found.digest != unit.digest:
                submissions[0].settle(KeyReused(f"{unit.key} came before with another body; use a new key"))
            else:
                _settle(submissions, found, duplicate=found.first_id != unit.first_id)

    async def _write_accepted(self, link: Link, submission: Submission) -> None:
        """Find the rows that Postgres will not take, and write the others."""
        try:
            async with link.use() as connection:
                submission.refused |= await find_refused(connection, submission.rows)
        except GONE as error:
            return self._fail([submission], f"the database is not available ({error})")
        keep = [index for index in range(len(submission.rows.types)) if index not in submission.refused]
        if not keep or not submission.refused:
            return submission.settle(RowsRefused(submission.refused))
        submission.rows = submission.rows.take(keep)
        submission.deltas = deltas_of(submission.rows.types, submission.rows.severities, submission.rows.timestamps)
        return await self._write(link, [submission])

    async def _unit(
        self, connection: asyncpg.Connection, submissions: list[Submission]
    ) -> tuple[Unit, list[Submission]]:
        first = submissions[0]
        unit = Unit(
            key=first.key or new_key(),
            digest=first.digest,
            answer=first.compose(first.refused) if first.key else None,
            first_id=await self._draw_ids(connection, sum(len(part.rows.types) for part in submissions)),
            parts=[part.rows for part in submissions],
            deltas=merged(part.deltas for part in submissions),
        )
        return unit, submissions

    async def _draw_ids(self, connection: asyncpg.Connection, n: int) -> int:
        """Return the first of n ids in a row; what is left of a block that is too short stays a gap."""
        if self._end_id - self._next_id < n:
            start = await connection.fetchval(_NEXT_BLOCK)
            self._next_id, self._end_id = start, start + ID_BLOCK
        first = self._next_id
        self._next_id += n
        return first

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
        submission.settle(Stored(first_id, found.created_at, found.answer, duplicate))
        first_id += len(submission.rows.types)
