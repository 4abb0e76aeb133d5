"""Rejected lines, kept in the table `rejected_lines`: limited in number, size and age, and never delaying a response.

Handlers add rejected lines to a short queue; one task writes them in portions, one per second. Lines that exceed the
queue are dropped and counted, so that many rejected lines use little memory and little of the database.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from brain_collector.settings import Settings
from brain_collector.storage.connection import GONE, Link, reason_of

INTERVAL_S: Final = 1.0
PORTION: Final = 200
MAX_WAITING: Final = 1_000
MAX_WAITING_BYTES: Final = 4 * 2**20

logger: Final = logging.getLogger(__name__)

_DRAW_IDS: Final = "SELECT nextval('rejected_lines_id_seq') FROM generate_series(1, $1::int)"

_INSERT: Final = """
    INSERT INTO rejected_lines (id, received_at, caller, batch_key, line_index, code, detail, line, line_bytes)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::uuid[], $5::int[], $6::text[], $7::text[],
        $8::bytea[], $9::int[])
    ON CONFLICT (id) DO NOTHING
"""

_TRIM: Final = """
    DELETE FROM rejected_lines WHERE id <= (
        SELECT max(id) FROM (
            SELECT id, row_number() OVER newest AS n, sum(length(line)) OVER newest AS bytes
            FROM rejected_lines WINDOW newest AS (ORDER BY id DESC)
        ) AS kept WHERE n > $1 OR bytes > $2
    )
"""

_EXPIRE: Final = "DELETE FROM rejected_lines WHERE received_at < now() - make_interval(days => $1)"


class RejectedLine(NamedTuple):
    """A line as received, and its error. `line_index` is its index in the batch; None for a single event."""

    received_at: datetime
    caller: str | None
    batch_key: UUID | None
    line_index: int | None
    code: str
    detail: str
    line: bytes


class RejectedLineWriter:
    """Queues rejected lines and writes them. A background task calls `flush`."""

    def __init__(self, settings: Settings, on_dropped: Callable[[int], None]) -> None:
        self._settings = settings
        self._on_dropped = on_dropped
        self._link = Link(settings, deadline_s=settings.internal_deadline_s)
        self._waiting: deque[tuple[Any, ...]] = deque()
        self._waiting_bytes = 0
        self._ids: list[
            int
        ] = []  # of the first portion; drawn once, so that a portion that is sent again is stored once

    def add(self, lines: Iterable[RejectedLine]) -> None:
        """Queue lines. Never waits, never raises."""
        if self._settings.max_rejected_lines == 0:
            return
        dropped = 0
        for line in lines:
            if len(self._waiting) == MAX_WAITING or self._waiting_bytes > MAX_WAITING_BYTES:
                dropped += 1
                continue
            kept = bytes(line.line[: self._settings.max_rejected_line_bytes])
            detail = line.detail.encode(errors="replace").decode().replace("\0", "?")  # it may quote any text
            self._waiting.append((*line[:-2], detail, kept, len(line.line)))
            self._waiting_bytes += len(kept)
        if dropped:
            self._on_dropped(dropped)

    async def flush(self) -> None:
        """Write a portion, and delete the oldest rows that exceed the limits; after an error, the next call retries."""
        n = len(self._ids) or min(len(self._waiting), PORTION)
        if n == 0:
            return
        portion = [self._waiting[index] for index in range(n)]
        try:
            async with self._link.use() as connection:
                self._ids = self._ids or [row[0] for row in await connection.fetch(_DRAW_IDS, n)]
                await connection.execute(_INSERT, self._ids, *map(list, zip(*portion, strict=True)))
                await connection.execute(_TRIM, self._settings.max_rejected_lines, self._settings.max_rejected_bytes)
        except (*GONE, asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
            return
        except asyncpg.PostgresError as error:
            logger.error("%d rejected lines were not kept: %s", n, reason_of(error))  # noqa: TRY400 - no traceback needed
            self._on_dropped(n)
        self._ids = []
        for _ in portion:
            self._waiting_bytes -= len(self._waiting.popleft()[-2])

    async def close(self) -> None:
        """Write one more portion, and close the connection."""
        await self.flush()
        if self._waiting:
            logger.warning("%d rejected lines were not kept: the collector shut down", len(self._waiting))
        await self._link.close()


async def expire(connection: asyncpg.Connection, settings: Settings) -> None:
    """Delete rows that are older than `rejected_life_days`."""
    await connection.execute(_EXPIRE, settings.rejected_life_days)
