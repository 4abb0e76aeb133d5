"""What a request hands to the writer, and what it gets back."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from brain_collector.counts import Deltas
from brain_collector.decode import Rows
from brain_collector.errors import CollectorError


class Stored(NamedTuple):
    """What became of a submission: its rows have ids from `first_id` on; a `duplicate` has the earlier `answer`."""

    first_id: int
    created_at: datetime
    answer: str | None
    duplicate: bool


class RowsRefused(CollectorError):  # noqa: N818 - an outcome, told to the sender in its own terms
    """Postgres would store none of the rows; `reasons` by row index."""

    def __init__(self, reasons: dict[int, str]) -> None:
        super().__init__(f"{len(reasons)} rows")
        self.reasons = reasons


class Submission:
    """The rows of one request and the future of its sender. `key` None: it is not idempotent.

    `compose` makes the answer that is stored with the key, given the rows that Postgres refused.
    """

    def __init__(
        self,
        rows: Rows,
        deltas: Deltas,
        *,
        size: int,
        key: UUID | None = None,
        digest: int = 0,
        compose: Callable[[dict[int, str]], str | None] = lambda _refused: None,
    ) -> None:
        self.rows = rows
        self.deltas = deltas
        self.size = size
        self.key = key
        self.digest = digest
        self.compose = compose
        self.refused: dict[int, str] = {}
        self.stored: asyncio.Future[Stored] = asyncio.get_running_loop().create_future()

    def settle(self, outcome: Stored | Exception) -> None:
        """Answer the sender, once."""
        if self.stored.done():
            return
        if isinstance(outcome, Exception):
            self.stored.set_exception(outcome)
            self.stored.exception()  # a sender that went away leaves no warning behind
        else:
            self.stored.set_result(outcome)
