"""Submissions: the rows of a request on their way to the writer, and the outcome on its way back."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from brain_collector.errors import CollectorError
from brain_collector.ingest.duplicates import KeyUse
from brain_collector.ingest.rows import Rows

NOT_STORABLE: Final = "not_storable"
"""The error code of a row that Postgres rejected."""
RejectedRows = dict[int, str]
"""Rows that Postgres rejected: the reason by index in the request."""


class Stored(NamedTuple):
    """The outcome of a submission whose rows are committed.

    Attributes:
        first_id: The id of the first row; the others are consecutive.
        created_at: The time of the transaction.
        answer: The response stored with the idempotency key (that of the first request), if it was stored.
        is_duplicate: The rows had been stored before, under the same idempotency key.
        is_same_body: For a duplicate: the body is known to be the same, and not only its checksum.
        earliest: The earliest timestamp of the rows.
        rejected: The rows that Postgres rejected.
    """

    first_id: int
    created_at: datetime
    answer: bytes | None
    is_duplicate: bool
    is_same_body: bool
    earliest: datetime
    rejected: RejectedRows


class RowsRejected(CollectorError):  # noqa: N818 - an outcome; each endpoint has its own error for it
    """Postgres rejected all rows."""

    def __init__(self, rejected: RejectedRows) -> None:
        super().__init__(f"{len(rejected)} rows")
        self.rejected = rejected


class Submission:
    """The rows of one request, and the future that it waits for.

    Args:
        rows: At least one row.
        compose: Returns the response to store with the idempotency key, if any, given the rows that Postgres rejected.
        key_use: The idempotency key, the caller and the body. Without one, a retry is stored again.
    """

    def __init__(
        self, rows: Rows, compose: Callable[[RejectedRows], bytes | None], *, key_use: KeyUse | None = None
    ) -> None:
        self.rows = rows
        self.key_use = key_use
        self.is_key_taken = False
        """The idempotency key is taken by another caller, for another body."""
        self.stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self.rejected: RejectedRows = {}
        self._compose = compose
        self._indexes: Sequence[int] = range(rows.n)

    def answer(self) -> bytes | None:
        """Return the response to store with the idempotency key; None without one."""
        return None if self.key_use is None else self._compose(self.rejected)

    def without(self, rejected: RejectedRows) -> "Submission":
        """Return this submission without some of its rows (by index), sharing its future.

        Raises:
            RowsRejected: no row remains.
        """
        all_rejected = self.rejected | {self._indexes[row]: reason for row, reason in rejected.items()}
        kept = [row for row in range(self.rows.n) if row not in rejected]
        if not kept:
            raise RowsRejected(all_rejected)
        remaining = Submission(self.rows.take(kept), self._compose, key_use=self.key_use)
        remaining.is_key_taken = self.is_key_taken
        remaining.stored = self.stored
        remaining.rejected = all_rejected
        remaining._indexes = [self._indexes[row] for row in kept]
        return remaining

    def settle(self, outcome: Stored | Exception) -> None:
        """Set the outcome, unless it is set already."""
        if self.stored.done():
            return
        if isinstance(outcome, Exception):
            self.stored.set_exception(outcome)
            self.stored.exception()  # no warning if the client has disconnected
        else:
            self.stored.set_result(outcome)
