"""Gathering: groups the submissions that one transaction writes: all that wait, up to a number of rows.

Requests with many rows fill a transaction by themselves. Requests with few rows gather while the previous transaction
is being written, because one transaction of twice the size costs much less than two:

    request  a ──┐                    b c d ──┐
    writer 1     └─ a: INSERT, COMMIT ─────┐  └─ b c d: INSERT, COMMIT ──
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple
from uuid import UUID

from brain_collector.ingest.submission import Submission

FEW_ROWS: Final = 20
GATHER_S: Final = 0.01
"""How long a request with few rows waits for the current transaction."""


class Group(NamedTuple):
    """The submissions that one transaction writes.

    Attributes:
        submissions: At most one per idempotency key.
        repeated: Submissions with an idempotency key of the group, which must wait for its outcome.
        is_last: The queue was closed: the writer ends once `repeated` is written.
    """

    submissions: list[Submission]
    repeated: list[Submission]
    is_last: bool


class Gathering:
    """The queue of submissions that no writer has taken yet."""

    def __init__(self, group_rows: int) -> None:
        self._group_rows = group_rows
        self._queue: asyncio.Queue[Submission | None] = asyncio.Queue()
        self._small_group = asyncio.Lock()  # held while a transaction of few-row requests is written
        self._was_shared = False  # the last group had several submissions: the next may too if it waits

    @property
    def waiting(self) -> int:
        """The number of submissions that no writer has taken yet."""
        return self._queue.qsize()

    def put(self, submission: Submission) -> None:
        """Add a submission to the queue."""
        self._queue.put_nowait(submission)

    def close(self, writers: int) -> None:
        """End every writer once the queue is written."""
        for _ in range(writers):
            self._queue.put_nowait(None)

    @asynccontextmanager
    async def next_group(self, repeated: Sequence[Submission], *, is_closing: bool) -> AsyncIterator[Group]:
        """Yield the next group, to write it inside the block; `repeated` of the previous group come first."""
        first: Sequence[Submission | None] = repeated or [await self._queue.get()]
        async with self._behind_small_group(first[0]):
            group = self._take(first, is_closing=is_closing)
            self._was_shared = len(group.submissions) > 1
            yield group

    @asynccontextmanager
    async def _behind_small_group(self, first: Submission | None) -> AsyncIterator[None]:
        """Let a request with few rows wait, up to `GATHER_S`, while others like it are written."""
        if first is None or first.rows.n > FEW_ROWS:
            yield
            return
        is_acquired = False
        with suppress(TimeoutError):
            async with asyncio.timeout(GATHER_S):
                is_acquired = await self._small_group.acquire()
                if self._was_shared:
                    await self._let_requests_arrive()
        try:
            yield
        finally:
            if is_acquired:
                self._small_group.release()

    async def _let_requests_arrive(self) -> None:
        """Let the event loop read the requests that have arrived at the sockets, until there are no more.

        Most are from clients that have just received the response of the previous transaction. Without this, the first
        of them would be written alone, and the others would alternate in two groups of half the size.
        """
        n = -1
        while n < (n := self._queue.qsize()):
            await asyncio.sleep(0)  # reads the sockets
            await asyncio.sleep(0)  # begins the requests that were read

    def _take(self, first: Sequence[Submission | None], *, is_closing: bool) -> Group:
        """Take submissions, up to `group_rows`; hold back a second one with an idempotency key of the group."""
        submissions: list[Submission] = []
        repeated: list[Submission] = []
        keys: set[UUID] = set()
        rows = 0
        incoming: deque[Submission | None] = deque(first)
        while incoming:
            submission = incoming.popleft()
            if submission is None:
                return Group(submissions, repeated, is_last=True)
            key = submission.key_use and submission.key_use.key
            if key in keys:
                repeated.append(submission)
            else:
                keys.update([key] if key else [])
                submissions.append(submission)
                rows += submission.rows.n
            # While closing, the queue has one None for each of the other writers: leave them.
            if not (incoming or is_closing) and rows < self._group_rows and not self._queue.empty():
                incoming.append(self._queue.get_nowait())
        return Group(submissions, repeated, is_last=is_closing)
