"""The account of a client's events: how many were logged, and what happened to them."""

import msgspec


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of events, exact while no call is in progress.

    `logged` + `adopted` = `delivered` + `rejected` + the sum of `dropped` + `spooled` + `in_memory`.
    """

    logged: int
    """Events logged through this client."""
    adopted: int = 0
    """Events taken over from the outbox or the journal of a process that had ended."""
    delivered: int
    """Events that the collector has stored."""
    rejected: int
    """Events that the collector has rejected; they are not sent again."""
    dropped: dict[str, int]
    """Lost events, counted by the reason of the loss.

    By reason: `before_init`, `before_send` (the hook dropped it or failed), `buffer_full`, `closed` (logged after the
    client was closed), `unsent` (left when the client closed, without a working outbox), `expired` (waited for 5 days),
    `damaged` (the file cannot be read), `limited` (left out by the limit of its type), `internal_error`.
    """
    spooled: int = 0
    """Events in the outbox, or left in the journal; this process or the next one sends them."""
    in_memory: int
    """Events that wait in memory, those in the journal of the default mode included."""
    not_durable: int = 0
    """Events that were kept in memory in durable mode, because the disk failed; other counts include them."""
    memory_only: int = 0
    """Events that were kept only in the memory of the process, where `kill -9` loses them; other counts include them.
    These are all events without a journal, and those for which the journal had no room."""
    newer: int = 0
    """Files (not events) that a later version of this package left in outbox or journal, for a process that can read
    them."""
