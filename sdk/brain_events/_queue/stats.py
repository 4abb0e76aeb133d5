"""The account of a client's events: what came in, what became of it."""

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Where events are; exact when no call is running.

    `logged` + `adopted` = `delivered` + `rejected` + the sum of `dropped` + `spooled` + `in_memory`.
    """

    logged: int
    adopted: int = 0
    """Found in the outbox of a process that had ended."""
    delivered: int
    rejected: int
    """Refused by the collector for good."""
    dropped: dict[str, int]
    """By reason: `before_init`, `buffer_full`, `closed` (logged after), `unsent` (left at close, nowhere to put it),
    `expired` (waited for 5 days), `damaged` (its file cannot be read), `internal_error`."""
    spooled: int = 0
    """On disk, not delivered: this process or the next one sends them."""
    in_memory: int
    not_durable: int = 0
    """Of those logged in durable mode, the ones that went to memory because the disk failed."""
    newer: int = 0
    """Files, not events: left in the outbox by a later version of this package, for a process that can read them."""
