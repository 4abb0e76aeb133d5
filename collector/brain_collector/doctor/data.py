"""The checks of the stored data: counts against events, ids, partitions, indexes, jobs. They only read.

Each check runs in one snapshot, so counts and events are compared as of the same moment.
"""

import re
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

import asyncpg

from brain_collector.counts import journal
from brain_collector.doctor.check import Check, Examination, Status, judged
from brain_collector.storage import search_index

MAX_NAMED: Final = 20
MIN_DAYS_AHEAD: Final = 2
MAX_JOURNAL_ROWS: Final = 100_000
MAX_UNINDEXED: Final = 1_000_000

INDEXES: Final = (
    "api_keys_pkey", "api_keys_prefix_key", "batches_pkey", "epochs_pkey", "event_counts_pkey", "hash_keys_pkey",
    "idx_batches_received_at", "idx_batches_request_hash", "idx_batches_xid", "idx_rejected_lines_received_at",
    "idx_search_blocks_max_ts", "idx_search_blocks_words", "idx_system_events_severity",
    "idx_system_events_timestamp", "idx_system_events_type", "jobs_pkey", "rejected_lines_pkey", "sessions_pkey",
    "system_events_pkey",
)  # fmt: skip
"""The indexes that the migrations create; partitions have those of `system_events`."""

_PRESENT: Final = """
    SELECT date_trunc('hour', "timestamp", 'UTC') AS bucket, event_type, severity, count(*) AS n
    FROM system_events WHERE "timestamp" >= $1::text::timestamptz GROUP BY 1, 2, 3
"""

_RECOUNT: Final = f"""
    WITH counted AS (
        SELECT bucket, event_type, severity, sum(n)::bigint AS n FROM (
            SELECT bucket, event_type, severity, n FROM event_counts WHERE grain = 'hour'
            UNION ALL
            SELECT bucket, event_type, severity, n FROM ({journal.JOURNAL}) AS journal
        ) AS part WHERE bucket >= $1::text::timestamptz GROUP BY 1, 2, 3
    ), present AS (
        SELECT bucket, event_type, severity, sum(n)::bigint AS n
        FROM ({journal.COUNTED_AS.format(rows=_PRESENT)}) AS counted_as GROUP BY 1, 2, 3
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
"""  # noqa: S608 - constants

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

_MISSING_INDEXES: Final = "SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NULL ORDER BY 1"

_UNATTACHED_INDEXES: Final = """
    SELECT whole.indexrelid::regclass::text || ' on ' || part.relid::regclass::text
    FROM pg_partition_tree('system_events') part CROSS JOIN pg_index whole
    WHERE part.isleaf AND whole.indrelid = 'system_events'::regclass AND NOT EXISTS (
        SELECT FROM pg_inherits JOIN pg_index own ON own.indexrelid = inhrelid
        WHERE inhparent = whole.indexrelid AND own.indrelid = part.relid
    ) ORDER BY 1
"""

_CORRECTION: Final = "/manual/how-to/troubleshooting.html at any collector"
_MAINTAINED: Final = "SELECT extract(epoch FROM clock_timestamp() - done_at)::float8 FROM jobs WHERE name = 'maintain'"


async def recount(examination: Examination) -> list[Check]:
    """Compare the counts of each hour with its events, and those of each day with its hours."""
    since = examination.bounds.since
    hours = await examination.connection.fetch(_RECOUNT, since)
    days = await examination.connection.fetch(_RECOUNT_DAYS, since)
    events, n, span = hours[0]["events"], hours[0]["n"], examination.bounds.span
    if n:
        detail = f"{n} counts{span} differ from the {events} stored events: {_drift_text(hours, 'events')}"
        advice = (
            "fewer events than counted: rows were lost, or deleted outside the collector; compare with a backup. More "
            "events: rows were inserted outside the collector. The manual has the statement that corrects the "
            f"counts: {_CORRECTION}"
        )
        checks = [Check("recount", "problem", detail, advice)]
    else:
        checks = [Check("recount", "ok", f"the counts of every hour{span} match the {events} events")]
    if days:
        detail = f"{days[0]['n']} counts of days differ from those of their hours: {_drift_text(days, 'in its hours')}"
        advice = f"totals in statistics are wrong; the manual has the statement that corrects the days: {_CORRECTION}"
        return [*checks, Check("recount days", "problem", detail, advice)]
    return [*checks, Check("recount days", "ok", f"the counts of every day{span} match its hours")]


def _drift_text(drift: list[asyncpg.Record], present: str) -> str:
    """Name the counts that differ; an event type may contain any characters, and is shown as a Python literal."""
    return "; ".join(
        f"{row['bucket']:%Y-%m-%dT%HZ} {row['event_type']!r} {row['severity']}: "
        f"{row['counted']} counted, {row['present']} {present}"
        for row in drift
    )


async def duplicates(examination: Examination) -> list[Check]:
    """Find ids that are stored twice: the primary key allows that under two timestamps."""
    doubled = await examination.connection.fetch(_DOUBLED, examination.bounds.since)
    if not doubled:
        return [Check("duplicates", "ok", f"no id is stored twice among the events{examination.bounds.span}")]
    ids = ", ".join(str(row["id"]) for row in doubled)
    advice = f"see these events, WHERE id IN ({ids}); delete the copies by id and timestamp, then run the recount again"
    return [Check("duplicates", "problem", f"{doubled[0]['n']} ids are stored more than once: {ids}", advice)]


async def partitions(examination: Examination) -> list[Check]:
    """Check the partitions of days: enough in advance, none missing in between, no DEFAULT partition."""
    rows = {row["name"]: _BOUNDS.fullmatch(row["bounds"]) for row in await examination.connection.fetch(_PARTITIONS)}
    days = sorted((_moment(bounds[1]), _moment(bounds[2])) for bounds in rows.values() if bounds)
    ahead = (days[-1][1].date() - datetime.now(UTC).date()).days - 1 if days else -1
    detail = f"{len(rows)} partitions, {max(ahead, 0)} whole days ahead of today"
    advice = (
        "collectors create the partitions: start one, or see in its log why it fails; later events cannot be stored"
    )
    status: Status = "ok" if ahead >= MIN_DAYS_AHEAD else "warning" if ahead > 0 else "problem"
    checks = [judged("partitions", status, detail, advice)]
    edges = [(_EARLIEST, _EARLIEST), *days]
    for (_, start), (end, _) in pairwise(edges):
        if start != end:
            checks.append(_gap(start, end))
    for name in (name for name, bounds in rows.items() if bounds is None):
        n = await examination.connection.fetchval(f"SELECT count(*) FROM (SELECT FROM {name} LIMIT 100000) AS part")  # noqa: S608 - quoted by regclass
        detail = f"{name} is a DEFAULT partition, with {n} rows (at most 100000 are counted)"
        advice = "collectors cannot create days beside it: DETACH it, insert its rows into system_events, then drop it"
        checks.append(Check("partitions", "problem", detail, advice))
    return checks


def _moment(text: str | None) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC) if text else _EARLIEST


def _gap(start: datetime, end: datetime) -> Check:
    first = "the beginning" if start == _EARLIEST else start.isoformat()
    bounds = f"FROM ({'MINVALUE' if start == _EARLIEST else repr(start.isoformat())}) TO ('{end.isoformat()}')"
    name = f"system_events_from_{'min' if start == _EARLIEST else f'{start:%Y%m%d}'}"
    advice = (
        f"if it was dropped by mistake, restore its events from a backup; to accept new ones: CREATE TABLE {name} "
        f"(LIKE system_events INCLUDING ALL); ALTER TABLE system_events ATTACH PARTITION {name} FOR VALUES {bounds}"
    )
    detail = f"no partition from {first} to {end.isoformat()}: events of that time cannot be stored"
    return Check("partitions", "problem", detail, advice)


async def indexes(examination: Examination) -> list[Check]:
    """Find indexes that are invalid, missing, or not attached on a partition: Postgres does not use them."""
    fetch = examination.connection.fetch
    invalid = [row[0] for row in await fetch(_INVALID_INDEXES)]
    missing = [row[0] for row in await fetch(_MISSING_INDEXES, list(INDEXES))]
    unattached = [row[0] for row in await fetch(_UNATTACHED_INDEXES)]
    checks = []
    if invalid:
        advice = (
            "if no migration is running (see pg_stat_progress_create_index): run `brain-events migrate`, or one by one "
            f"REINDEX INDEX CONCURRENTLY {invalid[0]}"
        )
        checks.append(Check("indexes", "problem", f"{len(invalid)} invalid: {_names(invalid)}", advice))
    if missing:
        advice = "`brain-events migrate --sql` prints their definitions; CREATE INDEX on system_events blocks writers"
        checks.append(Check("indexes", "problem", f"{len(missing)} missing: {_names(missing)}", advice))
    if unattached:
        advice = (
            "on each of these partitions, CREATE INDEX CONCURRENTLY with the definition of the index on system_events, "
            "then ALTER INDEX <index of system_events> ATTACH PARTITION <new index>"
        )
        detail = f"{len(unattached)} missing on partitions: {_names(unattached)}"
        checks.append(Check("indexes", "problem", detail, advice))
    return checks or [Check("indexes", "ok", "all indexes exist and are valid, on every partition")]


def _names(names: list[str]) -> str:
    return ", ".join(names[:MAX_NAMED]) + (", ..." if len(names) > MAX_NAMED else "")


async def jobs(examination: Examination) -> list[Check]:
    """Check when each background job last ran, on any collector."""
    folded_s, waiting = await journal.lag(examination.connection)
    maintained_s = await examination.connection.fetchval(_MAINTAINED)
    settings = examination.settings
    fine = folded_s < 60 + 10 * settings.fold_interval_s and waiting < MAX_JOURNAL_ROWS
    detail = f"the journal of counts was folded {folded_s:.0f} s ago; it holds {waiting} rows"
    if waiting >= MAX_JOURNAL_ROWS:
        detail += " or more"
    advice = "check that a collector runs; its log says why folding fails. Counts stay exact, statistics get slower"
    checks = [judged("fold", "ok" if fine else "warning", detail, advice)]
    fine = maintained_s < 60 + 3 * settings.maintain_interval_s
    advice = (
        "check that a collector runs; its log says why maintenance fails. Maintenance creates partitions and removes "
        "old idempotency keys"
    )
    detail = f"maintenance ran {maintained_s:.0f} s ago"
    checks.append(judged("maintain", "ok" if fine else "warning", detail, advice))
    index = await search_index.lag(examination.connection)
    fine = index.seconds < 60 and index.waiting < MAX_UNINDEXED and index.older is None and not index.unindexable
    detail = f"the search index was updated {index.seconds:.0f} s ago; {index.waiting} events wait for it"
    if index.older:
        detail += f"; events from before the upgrade, older than {index.older.isoformat()}, are not indexed yet"
    if index.unindexable:
        detail += f"; {index.unindexable} events could not be indexed, so every search looks at them"
    advice = (
        "searches are correct, but slower. After an upgrade or a burst, indexing takes a while; otherwise see the "
        "collector's log"
    )
    return [*checks, judged("index", "ok" if fine else "warning", detail, advice)]
