"""What a request hands to the writer, and what it gets back."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from brain_collector.errors import CollectorError
from brain_collector.ingest.decode import Rows

RejectedRows = dict[int, str]
"""Rows that Postgres would not store: the index of each in the request, and why."""


class Stored(NamedTuple):
    """What became of a submission: its rows have ids from `first_id` on.

    `answer` is what its sender is told; of a `duplicate`, what was told the first time.
    """

    first_id: int
    created_at: datetime
    answer: str
    duplicate: bool


class RowsRejected(CollectorError):  # noqa: N818 - an outcome, told to the sender in its own terms
    """Postgres would store none of the rows."""

    def __init__(self, refused: RejectedRows) -> None:
        super().__init__(f"{len(refused)} rows")
        self.refused = refused


class Submission:
    """The rows of one request, and the future of its sender.

    Args:
        rows: At least one row.
        compose: Makes the answer, given the rows that Postgres refused; it is stored with the key.
        key: The idempotency key; None: sent again, it is stored again.
        digest: Tells two bodies under one key apart.
    """

    def __init__(
        self, rows: Rows, compose: Callable[[RejectedRows], str], *, key: UUID | None = None, digest: int = 0
    ) -> None:
        self.rows = rows
        self.key = key
        self.digest = digest
        self.stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()
        self._compose = compose
        self._places: Sequence[int] = range(len(rows.types))
        self._refused: RejectedRows = {}

    def answer(self) -> str:
        """Return what the sender is told once the rows are committed."""
        return self._compose(self._refused)

    def without(self, refused: RejectedRows) -> "Submission":
        """Return the same submission, for the same sender, less some of its rows (by their index here).

        Raises:
            RowsRejected: no row is left.
        """
        all_refused = self._refused | {self._places[row]: why for row, why in refused.items()}
        keep = [row for row in range(len(self._places)) if row not in refused]
        if not keep:
            raise RowsRejected(all_refused)
        less = Submission(self.rows.take(keep), self._compose, key=self.key, digest=self.digest)
        less.stored = self.stored
        less._places = [self._places[row] for row in keep]
        less._refused = all_refused
        return less

    def settle(self, outcome: Stored | Exception) -> None:
        """Answer the sender, once."""
        if self.stored.done():
            return
        if isinstance(outcome, Exception):
            self.stored.set_exception(outcome)
            self.stored.exception()  # a sender that went away leaves no warning behind
        else:
            self.stored.set_result(outcome)
