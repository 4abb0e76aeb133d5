"""The doctor's look at what is stored: counts against events, ids, partitions, indexes, jobs. It only reads.

A case goes in, checks come out. Every statement is one snapshot; counts and events are compared in one.
"""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import asyncpg

from brain_collector.counts import journal
from brain_collector.doctor.check import Check, Examination, Status, judged
from brain_collector.storage import search_index

SHOWN: Final = 20
MIN_DAYS_AHEAD: Final = 2
MAX_JOURNAL_ROWS: Final = 100_000
MAX_UNINDEXED: Final = 1_000_000

INDEXES: Final = (
    "api_keys_pkey", "api_keys_prefix_key", "batches_pkey", "event_counts_pkey", "idx_batches_received_at",
    "idx_batches_xid", "idx_rejected_lines_received_at", "idx_search_blocks_max_ts", "idx_search_blocks_words",
    "idx_system_events_severity", "idx_system_events_timestamp", "idx_system_events_type", "jobs_pkey",
    "rejected_lines_pkey", "system_events_pkey",
)  # fmt: skip
"""What the migrations make; partitions have those of `system_events`."""

_RECOUNT: Final = """
    WITH counted AS (
        SELECT bucket, event_type, severity, sum(n)::bigint AS n FROM (
            SELECT bucket, event_type, severity, n FROM event_counts WHERE grain = 'hour'
            UNION ALL
            SELECT bucket, event_type, severity, n FROM event_deltas
        ) AS part WHERE bucket >= $1::text::timestamptz GROUP BY 1, 2, 3
    ), present AS (
        SELECT date_trunc('hour', "timestamp", 'UTC') AS bucket, event_type, severity, count(*) AS n
        FROM system_events WHERE "timestamp" >= $1::text::timestamptz GROUP BY 1, 2, 3
    ), compared AS MATERIALIZED (
        SELECT bucket, event_type, severity, coalesce(counted.n, 0) AS counted, coalesce(present.n, 0) AS present
        FROM counted FULL JOIN present USING (bucket, event_type, severity)
    )
    SELECT total.*, drift.* FROM (
        SELECT coalesce(sum(present), 0)::bigint AS events, count(*) FILTER (WHERE counted <> present) AS n
        FROM compared
    ) AS total LEFT JOIN (
        SELECT bucket, event_type, severity, counted, present FROM compared WHERE counted <> present
        ORDER BY bucket DESC, event_type, severity LIMIT 20
    ) AS drift ON true
"""

_RECOUNT_DAYS: Final = """
    WITH hours AS (
        SELECT date_trunc('day', bucket, 'UTC') AS bucket, event_type, severity, sum(n)::bigint AS n FROM event_counts
        WHERE grain = 'hour' AND bucket >= $1::text::timestamptz GROUP BY 1, 2, 3
    ), days AS (
        SELECT bucket, event_type, severity, n FROM event_counts
        WHERE grain = 'day' AND bucket >= $1::text::timestamptz
    )
    SELECT count(*) OVER () AS n, bucket, event_type, severity,
        coalesce(days.n, 0) AS counted, coalesce(hours.n, 0) AS present
    FROM days FULL JOIN hours USING (bucket, event_type, severity)
    WHERE coalesce(days.n, 0) <> coalesce(hours.n, 0)
    ORDER BY bucket DESC, event_type, severity LIMIT 20
"""

_DOUBLED: Final = """
    SELECT count(*) OVER () AS n, id FROM system_events WHERE "timestamp" >= $1::text::timestamptz
    GROUP BY id HAVING count(*) > 1 ORDER BY id LIMIT 20
"""

_PARTITIONS: Final = """
    SELECT child.oid::regclass::text AS name, pg_get_expr(child.relpartbound, child.oid) AS bounds
    FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid
    WHERE inhparent = 'system_events'::regclass
"""

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
_BOUNDS: Final = re.compile(r"FOR VALUES FROM \((?:MINVALUE|'([^']+)')\) TO \('([^']+)'\)")

_INVALID_INDEXES: Final = """
    SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE NOT (indisvalid AND indisready AND indislive)
        AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'system_events'::regclass)
    ORDER BY 1
"""

_GONE_INDEXES: Final = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL ORDER BY 1"

_UNATTACHED_INDEXES: Final = """
    SELECT whole.indexrelid::regclass::text || ' on ' || part.relid::regclass::text
    FROM pg_partition_tree('system_events') part CROSS JOIN pg_index whole
    WHERE part.isleaf AND whole.indrelid = 'system_events'::regclass AND NOT EXISTS (
        SELECT FROM pg_inherits JOIN pg_index own ON own.indexrelid = inhrelid
        WHERE inhparent = whole.indexrelid AND own.indrelid = part.relid
    ) ORDER BY 1
"""

_CORRECTION: Final = "/manual/how-to/troubleshooting.html of any collector"
_MAINTAINED: Final = "SELECT extract(epoch FROM clock_timestamp() - done_at)::float8 FROM jobs WHERE name = 'maintain'"


async def recount(case: Examination) -> list[Check]:
    """Compare the counts of each hour with its events, and those of each day with its hours."""
    since = case.bounds.since
    async with case.connection.transaction(isolation="repeatable_read", readonly=True):
        hours = await case.connection.fetch(_RECOUNT, since)
        days = await case.connection.fetch(_RECOUNT_DAYS, since)
    events, n, span = hours[0]["events"], hours[0]["n"], case.bounds.span
    if n:
        detail = f"{n} counts{span} differ from the {events} events that are there: {_listed(hours, 'events')}"
        advice = (
            "fewer events than counted: rows were lost, or deleted behind the collector's back: look in a backup; more:"
            " rows were inserted behind its back. The manual has the statement that corrects the counts:"
            f" {_CORRECTION}"
        )
        found = [Check("recount", "problem", detail, advice)]
    else:
        found = [Check("recount", "ok", f"the counts of every hour{span} are those of the {events} events")]
    if days:
        detail = f"{days[0]['n']} counts of days differ from those of their hours: {_listed(days, 'in its hours')}"
        advice = f"totals in statistics are wrong; the manual has the statement that corrects days: {_CORRECTION}"
        return [*found, Check("recount days", "problem", detail, advice)]
    return [*found, Check("recount days", "ok", f"the counts of every day{span} are those of its hours")]


def _listed(drift: list[asyncpg.Record], present: str) -> str:
    """Name the rows that drift; a type may hold any characters, and is shown as Python writes it."""
    return "; ".join(
        f"{row['bucket']:%Y-%m-%dT%HZ} {row['event_type']!r} {row['severity']}: "
        f"{row['counted']} counted, {row['present']} {present}"
        for row in drift
    )


async def duplicates(case: Examination) -> list[Check]:
    """Look for an id that is there twice: the primary key allows that under two timestamps."""
    doubled = await case.connection.fetch(_DOUBLED, case.bounds.since)
    if not doubled:
        return [Check("duplicates", "ok", f"no id is there twice among the events{case.bounds.span}")]
    ids = ", ".join(str(row["id"]) for row in doubled)
    advice = f"look at them, WHERE id IN ({ids}); delete the copies by id and timestamp, then look at the recount again"
    return [Check("duplicates", "problem", f"{doubled[0]['n']} ids are there more than once: {ids}", advice)]


async def partitions(case: Examination) -> list[Check]:
    """Look at the days: enough ahead, none missing between, no DEFAULT partition."""
    rows = {row["name"]: _BOUNDS.fullmatch(row["bounds"]) for row in await case.connection.fetch(_PARTITIONS)}
    days = sorted((_moment(found[1]), _moment(found[2])) for found in rows.values() if found)
    ahead = (days[-1][1].date() - datetime.now(UTC).date()).days - 1 if days else -1
    detail = f"{len(rows)} partitions, {max(ahead, 0)} whole days ahead of today"
    advice = "collectors make the days: start one, or see in its log why it does not; nothing is stored past the end"
    status: Status = "ok" if ahead >= MIN_DAYS_AHEAD else "warning" if ahead > 0 else "problem"
    found = [judged("partitions", status, detail, advice)]
    edges = [(_EARLIEST, _EARLIEST), *days]
    for (_, start), (end, _) in pairwise(edges):
        if start != end:
            found.append(_hole(start, end))
    for name in (name for name, bounds in rows.items() if bounds is None):
        n = await case.connection.fetchval(f"SELECT count(*) FROM (SELECT FROM {name} LIMIT 100000) AS part")  # noqa: S608 - quoted by regclass
        detail = f"{name} is a DEFAULT partition, with {n} rows (100000 at most are counted)"
        advice = "no collector makes days beside it: DETACH it, then insert its rows into system_events, then drop it"
        found.append(Check("partitions", "problem", detail, advice))
    return found


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC) if text else _EARLIEST


def _hole(start: datetime, end: datetime) -> Check:
    first = "the beginning" if start == _EARLIEST else start.isoformat()
    bounds = f"FROM ({'MINVALUE' if start == _EARLIEST else repr(start.isoformat())}) TO ('{end.isoformat()}')"
    name = f"system_events_from_{'min' if start == _EARLIEST else f'{start:%Y%m%d}'}"
    advice = (
        f"if it was dropped by mistake, bring its events back from a backup; to take new ones: CREATE TABLE {name} "
        f"(LIKE system_events INCLUDING ALL); ALTER TABLE system_events ATTACH PARTITION {name} FOR VALUES {bounds}"
    )
    detail = f"no partition from {first} to {end.isoformat()}: events of that time cannot be stored"
    return Check("partitions", "problem", detail, advice)


async def indexes(case: Examination) -> list[Check]:
    """Look for indexes that are not used because they are invalid, or are not there."""
    fetch = case.connection.fetch
    invalid = [row[0] for row in await fetch(_INVALID_INDEXES)]
    gone = [row[0] for row in await fetch(_GONE_INDEXES, list(INDEXES))]
    unattached = [row[0] for row in await fetch(_UNATTACHED_INDEXES)]
    found = []
    if invalid:
        advice = (
            "if no migration is at work (look in pg_stat_progress_create_index): `brain-events migrate`, or one by one "
            f"REINDEX INDEX CONCURRENTLY {invalid[0]}"
        )
        found.append(Check("indexes", "problem", f"{len(invalid)} are invalid: {_some(invalid)}", advice))
    if gone:
        advice = "`brain-events migrate --sql` shows how they are made; CREATE INDEX on system_events holds up writers"
        found.append(Check("indexes", "problem", f"{len(gone)} are not there: {_some(gone)}", advice))
    if unattached:
        advice = (
            "on each of those partitions CREATE INDEX CONCURRENTLY as on system_events, then "
            "ALTER INDEX <that of system_events> ATTACH PARTITION <the new one>"
        )
        found.append(
            Check("indexes", "problem", f"{len(unattached)} are not on partitions: {_some(unattached)}", advice)
        )
    return found or [Check("indexes", "ok", "all are there and valid, on every partition")]


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


async def jobs(case: Examination) -> list[Check]:
    """Look when background work was last done, by whichever collector."""
    folded_s, waiting = await journal.lag(case.connection)
    maintained_s = await case.connection.fetchval(_MAINTAINED)
    settings = case.settings
    fine = folded_s < 60 + 10 * settings.fold_interval_s and waiting < MAX_JOURNAL_ROWS
    detail = f"the journal of counts was folded {folded_s:.0f} s ago, {waiting} rows are in it"
    if waiting >= MAX_JOURNAL_ROWS:
        detail += " or more"
    advice = "does a collector run? Its log says why it does not fold; counts stay right, statistics get slower"
    found = [judged("fold", "ok" if fine else "warning", detail, advice)]
    fine = maintained_s < 60 + 3 * settings.maintain_interval_s
    advice = "does a collector run? Its log says why it does not; days are made and old keys removed by it"
    detail = f"partitions were looked after {maintained_s:.0f} s ago"
    found.append(judged("maintain", "ok" if fine else "warning", detail, advice))
    index = await search_index.lag(case.connection)
    fine = index.seconds < 60 and index.waiting < MAX_UNINDEXED and index.older is None
    detail = f"words were gathered {index.seconds:.0f} s ago, {index.waiting} events wait for it"
    if index.older:
        detail += f"; what was stored before the upgrade, from {index.older.isoformat()} down, is not done yet"
    advice = (
        "searches are right, but slower; after an upgrade or a flood it takes a while, else the log says what hinders"
    )
    return [*found, judged("index", "ok" if fine else "warning", detail, advice)]
