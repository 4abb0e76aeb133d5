"""The account of a client's events: what came in, what became of it."""

import msgspec


class Stats(msgspec.Struct, frozen=True):
    """Where events are: `logged` = `delivered` + `rejected` + the sum of `dropped` + `in_memory`, at any moment."""

    logged: int
    delivered: int
    rejected: int
    """Refused by the collector for good."""
    dropped: dict[str, int]
    """By reason: `before_init`, `buffer_full`, `closed` (logged after), `unsent` (left at close), `internal_error`."""
    in_memory: int
