"""What a request hands to the writer, and what it gets back."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from brain_collector.errors import CollectorError
from brain_collector.ingest.rows import Rows

NOT_STORABLE: Final = "not_storable"
"""The code of a row that Postgres would not store."""
RejectedRows = dict[int, str]
"""Rows that Postgres would not store: the index of each in the request, and the reason."""


class Stored(NamedTuple):
    """The outcome of a submission whose rows are committed, with ids from `first_id` on.

    Attributes:
        first_id: The id of its first row; the others follow without a gap.
        created_at: The time of the transaction.
        answer: What is stored under its idempotency key: of a duplicate, the first answer. None without a key.
        is_duplicate: Its idempotency key was known; these rows were stored before.
        rejected: The rows that Postgres would not store.
    """

    first_id: int
    created_at: datetime
    answer: bytes | None
    is_duplicate: bool
    rejected: RejectedRows


class RowsRejected(CollectorError):  # noqa: N818 - an outcome, told to the sender in its own terms
    """Postgres would store none of the rows."""

    def __init__(self, rejected: RejectedRows) -> None:
        super().__init__(f"{len(rejected)} rows")
        self.rejected = rejected


class Submission:
    """The rows of one request, and the future of its sender.

    Args:
        rows: At least one row.
        compose: Makes the answer that is stored with the idempotency key, given the rows that Postgres rejected.
        key: The idempotency key; without one, a retry is stored again.
        digest: Distinguishes two bodies under one key.
    """

    def __init__(
        self, rows: Rows, compose: Callable[[RejectedRows], bytes], *, key: UUID | None = None, digest: int = 0
    ) -> None:
        self.rows = rows
        self.key = key
        self.digest = digest
        self.stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self.rejected: RejectedRows = {}
        self._compose = compose
        self._indexes: Sequence[int] = range(rows.n)

    def answer(self) -> bytes | None:
        """Compose what is stored under the idempotency key; None without one."""
        return None if self.key is None else self._compose(self.rejected)

    def without(self, rejected: RejectedRows) -> "Submission":
        """Return the same submission, for the same sender, without some of its rows (by their index here).

        Raises:
            RowsRejected: no row is left.
        """
        all_rejected = self.rejected | {self._indexes[row]: reason for row, reason in rejected.items()}
        kept = [row for row in range(self.rows.n) if row not in rejected]
        if not kept:
            raise RowsRejected(all_rejected)
        remaining = Submission(self.rows.take(kept), self._compose, key=self.key, digest=self.digest)
        remaining.stored = self.stored
        remaining.rejected = all_rejected
        remaining._indexes = [self._indexes[row] for row in kept]
        return remaining

    def settle(self, outcome: Stored | Exception) -> None:
        """Give the sender its outcome, once."""
        if self.stored.done():
            return
        if isinstance(outcome, Exception):
            self.stored.set_exception(outcome)
            self.stored.exception()  # a sender that disconnected leaves no warning behind
        else:
            self.stored.set_result(outcome)
