"""The totals of all events: one statement, exact at any size."""

from typing import Final

from brain_collector.counts.journal import JOURNAL

_OVERALL: Final = """
    WITH counted AS MATERIALIZED (
        SELECT event_type, severity, sum(n) AS n FROM (
            SELECT event_type, severity, n FROM event_counts WHERE grain = 'day'
            UNION ALL
            SELECT event_type, severity, n FROM ({journal}) AS journal
        ) AS part GROUP BY 1, 2
    ), recent AS (
        SELECT n FROM event_counts WHERE grain = 'hour' AND bucket >= :first_full_hour
        UNION ALL
        SELECT n FROM event_deltas WHERE bucket >= :first_full_hour
        UNION ALL
        SELECT count(*) FROM system_events WHERE "timestamp" >= :since AND "timestamp" < :first_full_hour
    )
    SELECT
        (SELECT json_object_agg(severity, n) FROM (
            SELECT severity, sum(n) AS n FROM counted GROUP BY 1 HAVING sum(n) <> 0
        ) AS total) AS severities,
        (SELECT json_object_agg(event_type, n) FROM (
            SELECT event_type, sum(n) AS n FROM counted WHERE event_type <> ''
            GROUP BY 1 HAVING sum(n) <> 0 ORDER BY 2 DESC, 1 LIMIT :max_types
        ) AS total) AS types,
        (SELECT coalesce(sum(n), 0)::bigint FROM counted WHERE event_type = '') AS nameless,
        (SELECT coalesce(sum(n), 0)::bigint FROM recent) AS recent,
        (
            SELECT "timestamp" FROM system_events WHERE "timestamp" >= :last_since
            ORDER BY "timestamp" DESC, id DESC LIMIT 1
        ) AS last,
        EXISTS (SELECT FROM event_counts WHERE grain = 'full') AS has_full_days
"""
"""Day rows and journal, the last 24 hours, and the newest event from `last_since` on: one statement, one snapshot.

Of the types, the `max_types` most frequent; `nameless` events are counted without their type.
"""

OVERALL: Final = _OVERALL.format(journal="SELECT event_type, severity, n FROM event_deltas")
"""If it `has_full_days`, its types may be wrong: the fold counts some deltas without their type (`fold`)."""

OVERALL_WITH_FULL_DAYS: Final = _OVERALL.format(journal=JOURNAL)
