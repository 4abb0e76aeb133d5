"""Statistics: exact counts of all events, or of those of some types, severities and times."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import text

from brain_collector.counts.journal import hour
from brain_collector.counts.overall import OVERALL, OVERALL_WITH_FULL_DAYS
from brain_collector.counts.totals import totals
from brain_collector.query.filter import Filter
from brain_collector.read.store import Store
from brain_collector.schema import Stats

TYPE_BYTES: Final = 512
"""Maximum size of a type and its number in the response, with its characters escaped."""
RECENT: Final = timedelta(hours=24)
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_REMEDY: Final = "choose full hours for `from` and `to`"
_REMEDY_OF_TYPES: Final = (
    "one of its days has more types than are counted by name (BRAIN_COLLECTOR_MAX_TYPES_PER_DAY), so the events of the "
    "day are counted; choose `from` and `to` without it"
)

_numbers: Final = msgspec.json.Decoder(dict[str, int])


async def statistics(store: Store, filter: Filter, max_types: int) -> Stats:
    """Return exact counts of one snapshot. Of the filter only types, severities and the time range are used.

    Raises:
        QueryTooBroad: the filter needs events to be counted, and that took too long.
        Unavailable: the database is unavailable.
    """
    since = datetime.now(UTC) - RECENT
    if filter == Filter():
        row = await _overall(store, since, since, max_types)
        if row.last is None:
            row = await _overall(store, since, _EARLIEST, max_types)
    else:
        (row,) = await store.search(totals(filter, since, max_types), _REMEDY)
        if row.has_full_days and filter.event_types:
            (row,) = await store.search(totals(filter, since, max_types, "events"), _REMEDY_OF_TYPES)
        elif row.has_full_days:
            (row,) = await store.search(totals(filter, since, max_types, "names"), _REMEDY)
    return _stats(row)


async def _overall(store: Store, since: datetime, last_since: datetime, max_types: int) -> Any:
    """Return the row. The newest event is looked for from `last_since` on.

    To look for it in every partition would take a quarter of the statement's time.
    """
    bounds = {"since": since, "first_full_hour": hour(since) + timedelta(hours=1), "last_since": last_since}
    (row,) = await store.fetch(text(OVERALL).bindparams(max_types=max_types, **bounds))
    if row.has_full_days:
        (row,) = await store.fetch(text(OVERALL_WITH_FULL_DAYS).bindparams(max_types=max_types, **bounds))
    return row


def _stats(row: Any) -> Stats:
    severities, types = _numbers.decode(row.severities or "{}"), _numbers.decode(row.types or "{}")
    total = sum(severities.values())
    others = total - sum(types.values())
    return Stats(
        total,
        severities,
        types,
        int(row.recent),
        row.last,
        others or msgspec.UNSET,
        int(row.nameless) or msgspec.UNSET,
    )
