"""The doctor's look at what is left: connections, locks, disk, transaction ids, and the cache beside them."""

import asyncio
import shutil
import time
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from brain_collector.doctor.check import Check, Examination, Status, judged
from brain_collector.settings import Settings
from brain_collector.storage.connection import reason_of
from brain_collector.storage.migrate import without_password

LOW_BYTES: Final = 4 * 2**30
"""Of free disk: twice what the embedded server's log aims at."""
FULL_BYTES: Final = 256 * 2**20
OLD_IDS: Final = 500_000_000
ANCIENT_IDS: Final = 1_500_000_000
"""At 2^31 Postgres takes no more writes."""
OTHER_CONNECTIONS: Final = 5
"""Of a collector, beside writers and readers: background, monitor, index, keys, quarantine."""
CACHE_PATIENCE_S: Final = 3.0

_CONNECTIONS: Final = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0) AS places,
        count(*) FILTER (WHERE pid <> pg_backend_pid()) AS used,
        count(*) FILTER (WHERE application_name = 'brain-events' AND datname = current_database()) AS ours
    FROM pg_stat_activity WHERE backend_type = 'client backend'
"""

_LOCK_TABLE: Final = """
    SELECT current_setting('max_locks_per_transaction')::int AS has,
        (SELECT count(*) FROM pg_partition_tree('system_events'))
            * (1 + (SELECT count(*) FROM pg_index WHERE indrelid = 'system_events'::regclass)) AS needs
"""

_OLD_TRANSACTIONS: Final = """
    SELECT pid, application_name AS name, state, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND datname = current_database()
        AND clock_timestamp() - xact_start > make_interval(secs => $1)
    ORDER BY xact_start LIMIT 20
"""

_WAITING: Final = """
    SELECT pid, pg_blocking_pids(pid) AS behind,
        coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 AS waited_s
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND pid <> pg_backend_pid() AND datname = current_database()
    GROUP BY pid ORDER BY 3 DESC LIMIT 20
"""

_AGE: Final = """
    SELECT datname AS name, greatest(age(datfrozenxid), mxid_age(datminmxid)) AS age
    FROM pg_database ORDER BY 2 DESC LIMIT 1
"""


async def connections(case: Examination) -> list[Check]:
    """Compare the places for connections with what one more collector takes."""
    row = await case.connection.fetchrow(_CONNECTIONS)
    assert row is not None
    needs = case.settings.writers + case.settings.read_connections + OTHER_CONNECTIONS
    status: Status = "ok" if row["places"] - row["used"] >= needs else "warning"
    detail = f"{row['used']} of {row['places']} are used, {row['ours']} by collectors; one takes up to {needs}"
    return [judged("connections", status, detail, "raise max_connections, or start no further collector")]


async def lock_table(case: Examination) -> list[Check]:
    """Compare the room for locks with what a query over all days takes."""
    row = await case.connection.fetchrow(_LOCK_TABLE)
    assert row is not None
    detail = f"a query over all days takes {row['needs']} locks, max_locks_per_transaction is {row['has']}"
    status: Status = "ok" if row["has"] >= row["needs"] else "warning"
    return [judged("lock table", status, detail, "set it to 1024 or more, and restart Postgres")]


async def transactions(case: Examination) -> list[Check]:
    """Look for transactions that have been open for long: they hold up migrations and VACUUM."""
    limit_s = case.bounds.transaction_s
    rows = await case.connection.fetch(_OLD_TRANSACTIONS, limit_s)
    if not rows:
        return [Check("transactions", "ok", f"none is older than {limit_s:g} s")]
    listed = ", ".join(
        f"{row['pid']} ({row['name'] or 'no name'}, {row['state']}, {row['age_s']:.0f} s)" for row in rows
    )
    advice = (
        "unless it is a dump or a restore: look at it in pg_stat_activity; "
        f"to end it: SELECT pg_terminate_backend({rows[0]['pid']})"
    )
    return [Check("transactions", "warning", f"open for more than {limit_s:g} s: {listed}", advice)]


async def locks(case: Examination) -> list[Check]:
    """Look who waits for whom; a collector gives up after `lock_deadline_s`."""
    rows = await case.connection.fetch(_WAITING)
    if not rows:
        return [Check("locks", "ok", "nobody waits for a lock")]
    listed = ", ".join(
        f"{row['pid']} waits for {' '.join(map(str, row['behind'])) or 'nobody'} ({row['waited_s']:.1f} s)"
        for row in rows
    )
    status: Status = "problem" if rows[0]["waited_s"] > case.settings.lock_deadline_s else "warning"
    advice = "look at the one it waits for in pg_stat_activity; to end it: SELECT pg_terminate_backend(<pid>)"
    return [Check("locks", status, listed, advice)]


async def disk(case: Examination) -> list[Check]:
    """Say how large the database is, and where we can see it, what room is left."""
    n_bytes = await case.connection.fetchval("SELECT pg_database_size(current_database())")
    detail = f"the database has {n_bytes / 2**20:.0f} MiB"
    if case.data_dir is None:
        return [Check("disk", "ok", f"{detail}; what is free on its machine is not seen from here")]
    free = shutil.disk_usage(case.data_dir).free
    status: Status = "problem" if free < FULL_BYTES else "warning" if free < LOW_BYTES else "ok"
    advice = "make room: grow the disk, or delete what is not the database's; never in pg_wal"
    return [judged("disk", status, f"{detail}, {free / 2**20:.0f} MiB are free", advice)]


async def wraparound(case: Examination) -> list[Check]:
    """Say how old the oldest transaction id is."""
    row = await case.connection.fetchrow(_AGE)
    assert row is not None
    status: Status = "problem" if row["age"] > ANCIENT_IDS else "warning" if row["age"] > OLD_IDS else "ok"
    advice = f"autovacuum does not keep up: end old transactions and replication slots, VACUUM (FREEZE) {row['name']}"
    detail = f"the oldest id ({row['name']}) is {row['age'] / 1e6:.0f} million old, of 2147 million"
    return [judged("wraparound", status, detail, advice)]


async def cache(settings: Settings) -> Check:
    """Look at Redis; without it everything is right, and slower."""
    if settings.redis_url in {None, "none"}:
        return Check(
            "cache", "ok", "none is given: each collector has its own; with several, give them one (--redis-url)"
        )
    where = without_password(str(settings.redis_url))
    client = redis.asyncio.Redis.from_url(str(settings.redis_url))
    try:
        async with asyncio.timeout(CACHE_PATIENCE_S):
            await client.ping()
            began_s = time.monotonic()
            has: dict[str, Any] = await client.info()
            took_s = time.monotonic() - began_s
    except (RedisError, OSError) as error:
        advice = "start it, or see whether address and password are right; meanwhile reads go to the database"
        return Check("cache", "warning", f"{where}: {reason_of(error)}", advice)
    finally:
        await client.aclose()
    policy, most = has.get("maxmemory_policy", "unknown"), int(has.get("maxmemory", 0))
    name = f"Valkey {has['valkey_version']}" if "valkey_version" in has else f"Redis {has.get('redis_version', '?')}"
    limit = f"{most / 2**20:.0f} MiB at most" if most else "no limit of memory"
    detail = f"{name} at {where}, {limit}, {policy}, answers in {took_s * 1000:.1f} ms"
    advice = "maxmemory and maxmemory-policy allkeys-lru: it may forget all, but a full one takes nothing any more"
    return judged("cache", "warning" if policy == "noeviction" else "ok", detail, advice)
