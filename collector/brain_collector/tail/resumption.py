"""Where a stream resumes: a decision about positions of earlier epochs, of other databases, and of long ago."""

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from brain_collector.storage.epochs import MARGIN, Epoch
from brain_collector.tail.position import Position, after_transaction

EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
"""The start of a gap whose beginning is not known."""
_TICK: Final = timedelta(microseconds=1)


class Missing(NamedTuple):
    """The time range of events that may be missing; it excludes `until`, and without `until` it ends now."""

    since: datetime
    until: datetime | None = None


class Resumption(NamedTuple):
    """The position after which a stream resumes, and the events that may be missing before it."""

    after: Position
    missing: Missing | None = None


def resume(position: Position, epochs: list[Epoch], limit: Position, otherwise: Position) -> Resumption:
    """Return where a stream resumes in the last of `epochs`, if it ended at `position`.

    `limit` is the end of what is final now. If the position is unknown here, the stream resumes at `otherwise`.
    """
    current = epochs[-1]
    later = [epoch for epoch in epochs if epoch.epoch > position.epoch]
    is_known = any(epoch.epoch == position.epoch for epoch in epochs) and all(epoch.keeps_order for epoch in later)
    if not is_known or position > limit:
        return Resumption(otherwise, Missing(EARLIEST))
    missing = None
    after = position._replace(epoch=current.epoch)
    for epoch in later:
        start = after_transaction(current.epoch, epoch.first_xid - 1)
        if after > start:  # the numbers above were assigned by the server before, and are assigned again
            after = start
            missing = Missing(min(epoch.at - MARGIN, missing.since) if missing else epoch.at - MARGIN, epoch.at)
    kept = [epoch for epoch in epochs if epoch.epoch >= position.epoch]  # a deletion at the change records the last one
    forgotten = max(Position(current.epoch, epoch.forgotten_xid, epoch.forgotten_id) for epoch in kept)
    if after < forgotten:
        after = forgotten
        until = max((epoch.forgotten_until for epoch in kept if epoch.forgotten_until), default=None)
        missing = Missing(EARLIEST, until and until + _TICK)
    return Resumption(after, missing)
