"""Pages of events that Postgres bounds in bytes: it prints and sends no event beyond the bound.

Stored details can be far smaller than their text (compression, numbers such as 1e300), so the size is known only after
they are printed.
"""

from typing import Any, Final

from sqlalchemy import BigInteger, Integer, Select, bindparam, text
from sqlalchemy.sql.selectable import TextualSelect

from brain_collector.query.cursor import Page, position_of
from brain_collector.schema import Event

EVENT_BYTES: Final = 250
"""Size of an event in addition to its message and its details."""

# OFFSET 0 keeps each event from being printed more than once. count() only grows, so Postgres reads no further event
# once the condition on it is false; sum() could shrink.
_WITHIN: Final = (
    text("""
        SELECT id, event_type, severity, CASE WHEN fits THEN message ELSE '' END AS message,
            CASE WHEN fits THEN details END AS details, source, "timestamp", created_at, fits
        FROM (
            SELECT *, count(CASE WHEN NOT fits THEN 1 END) OVER so_far AS beyond
            FROM (
                SELECT *, upto <= :max_bytes OR upto = size AS fits
                FROM (
                    SELECT *, sum(size) OVER so_far AS upto
                    FROM (
                        SELECT *, coalesce(octet_length(details), 0) + octet_length(message) + :event_bytes AS size
                        FROM (
                            SELECT id, event_type, severity, message, details::text AS details, source, "timestamp",
                                created_at
                            FROM page ORDER BY "timestamp" DESC, id DESC OFFSET 0
                        ) AS printed
                    ) AS sized
                    WINDOW so_far AS (ORDER BY "timestamp" DESC, id DESC ROWS UNBOUNDED PRECEDING)
                ) AS summed
            ) AS judged
            WINDOW so_far AS (ORDER BY "timestamp" DESC, id DESC ROWS UNBOUNDED PRECEDING)
        ) AS counted
        WHERE beyond <= 1
        ORDER BY "timestamp" DESC, id DESC
    """)
    .bindparams(bindparam("max_bytes", type_=BigInteger()), bindparam("event_bytes", EVENT_BYTES, Integer()))
    .columns()
)


def within_bytes(page: Select[Any], max_bytes: int) -> TextualSelect:
    """Return the query for the first events of a page, of at most `max_bytes` together, but at least one.

    `page` is in order and has a LIMIT. If it has more events, the next one follows without its message and its details,
    and its column `fits` is false.
    """
    return _WITHIN.bindparams(max_bytes=max_bytes).add_cte(page.cte("page"))


def cut(events: list[Event], max_bytes: int) -> Page:
    """Return the first events of at most `max_bytes` together, but at least one, and their end if that is not all."""
    left = max_bytes
    for n, event in enumerate(events):
        left -= len(event.message.encode()) + memoryview(event.details).nbytes + EVENT_BYTES
        if left < 0 and n:
            return Page(events[:n], position_of(events[n - 1]))
    return Page(events, None)
