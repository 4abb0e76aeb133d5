"""The checks of capacity: connections, locks, disk, transaction ids, and the cache."""

import asyncio
import shutil
import time
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from brain_collector.addresses.masking import masked, without_secrets
from brain_collector.addresses.redis_url import connection_url
from brain_collector.cache import failure_reason
from brain_collector.doctor.check import Check, Examination, Status, judged
from brain_collector.settings import Settings

LOW_BYTES: Final = 4 * 2**30
"""Free disk below which the doctor warns: twice the `max_wal_size` of the embedded server."""
FULL_BYTES: Final = 256 * 2**20
OLD_IDS: Final = 500_000_000
ANCIENT_IDS: Final = 1_500_000_000
"""At 2^31 Postgres accepts no more writes."""
OTHER_CONNECTIONS: Final = 5
"""A collector's connections besides writers and readers: background jobs, monitor, search index, API keys, rejected
lines."""
CACHE_PATIENCE_S: Final = 3.0

_CONNECTIONS: Final = """
    SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0) AS available,
        count(*) FILTER (WHERE pid <> pg_backend_pid()) AS used,
        count(*) FILTER (WHERE application_name = 'brain-events' AND datname = current_database()) AS ours
    FROM pg_stat_activity WHERE backend_type = 'client backend'
"""

_LOCK_TABLE: Final = """
    SELECT current_setting('max_locks_per_transaction')::int AS capacity,
        (SELECT count(*) FROM pg_partition_tree('system_events'))
            * (1 + (SELECT count(*) FROM pg_index WHERE indrelid = 'system_events'::regclass)) AS required
"""

_OLD_TRANSACTIONS: Final = """
    SELECT pid, application_name AS name, state, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS age_s
    FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND datname = current_database()
        AND clock_timestamp() - xact_start > make_interval(secs => $1)
    ORDER BY xact_start LIMIT 20
"""

_WAITING: Final = """
    SELECT pid, pg_blocking_pids(pid) AS blockers,
        coalesce(max(extract(epoch FROM clock_timestamp() - waitstart)), 0)::float8 AS waited_s
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND pid <> pg_backend_pid() AND datname = current_database()
    GROUP BY pid ORDER BY 3 DESC LIMIT 20
"""

_AGE: Final = """
    SELECT datname AS name, greatest(age(datfrozenxid), mxid_age(datminmxid)) AS age
    FROM pg_database ORDER BY 2 DESC LIMIT 1
"""


async def connections(examination: Examination) -> list[Check]:
    """Compare the free connections with those that one more collector needs."""
    row = await examination.connection.fetchrow(_CONNECTIONS)
    assert row is not None
    required = examination.settings.writers + examination.settings.read_connections + OTHER_CONNECTIONS
    status: Status = "ok" if row["available"] - row["used"] >= required else "warning"
    detail = (
        f"{row['used']} of {row['available']} connections are used, {row['ours']} of them by collectors; a collector "
        f"uses up to {required}"
    )
    return [judged("connections", status, detail, "raise max_connections before you start another collector")]


async def lock_table(examination: Examination) -> list[Check]:
    """Compare the size of the lock table with the locks of a query over all days."""
    row = await examination.connection.fetchrow(_LOCK_TABLE)
    assert row is not None
    detail = f"a query over all days takes {row['required']} locks, max_locks_per_transaction is {row['capacity']}"
    status: Status = "ok" if row["capacity"] >= row["required"] else "warning"
    advice = "set max_locks_per_transaction to 1024 or more, and restart Postgres"
    return [judged("lock table", status, detail, advice)]


async def transactions(examination: Examination) -> list[Check]:
    """Find transactions that have been open for long: they delay migrations and VACUUM."""
    limit_s = examination.bounds.transaction_s
    rows = await examination.connection.fetch(_OLD_TRANSACTIONS, limit_s)
    if not rows:
        return [Check("transactions", "ok", f"no transaction has been open for more than {limit_s:g} s")]
    listed = ", ".join(
        f"{row['pid']} ({row['name'] or 'no name'}, {row['state']}, {row['age_s']:.0f} s)" for row in rows
    )
    advice = (
        "unless it is a dump or a restore, see what it does in pg_stat_activity; "
        f"to end it: SELECT pg_terminate_backend({rows[0]['pid']})"
    )
    return [Check("transactions", "warning", f"open for more than {limit_s:g} s: {listed}", advice)]


async def locks(examination: Examination) -> list[Check]:
    """Find sessions that wait for a lock, and those that hold it; a collector gives up after `lock_deadline_s`."""
    rows = await examination.connection.fetch(_WAITING)
    if not rows:
        return [Check("locks", "ok", "no session waits for a lock")]
    listed = ", ".join(
        f"{row['pid']} waits for {' '.join(map(str, row['blockers'])) or 'a lock just released'} "
        f"({row['waited_s']:.1f} s)"
        for row in rows
    )
    status: Status = "problem" if rows[0]["waited_s"] > examination.settings.lock_deadline_s else "warning"
    advice = "see what the holder of the lock does in pg_stat_activity; to end it: SELECT pg_terminate_backend(<pid>)"
    return [Check("locks", status, listed, advice)]


async def disk(examination: Examination) -> list[Check]:
    """Report the size of the database and, for an embedded server, the free disk."""
    n_bytes = await examination.connection.fetchval("SELECT pg_database_size(current_database())")
    detail = f"the database takes {n_bytes / 2**20:.0f} MiB"
    if examination.data_dir is None:
        return [Check("disk", "ok", f"{detail}; the free disk of its machine is not visible from here")]
    free = shutil.disk_usage(examination.data_dir).free
    status: Status = "problem" if free < FULL_BYTES else "warning" if free < LOW_BYTES else "ok"
    advice = "free space: grow the disk, or delete other files; never delete files in pg_wal"
    return [judged("disk", status, f"{detail}; {free / 2**20:.0f} MiB of the disk are free", advice)]


async def wraparound(examination: Examination) -> list[Check]:
    """Report the age of the oldest transaction id."""
    row = await examination.connection.fetchrow(_AGE)
    assert row is not None
    status: Status = "problem" if row["age"] > ANCIENT_IDS else "warning" if row["age"] > OLD_IDS else "ok"
    advice = (
        "autovacuum does not keep up: end old transactions, drop unused replication slots, then VACUUM (FREEZE) "
        f"{row['name']}"
    )
    detail = (
        f"the oldest transaction id (in {row['name']}) has an age of {row['age'] / 1e6:.0f} million, of 2147 million"
    )
    return [judged("wraparound", status, detail, advice)]


async def cache(settings: Settings) -> Check:
    """Check Redis or Valkey; without it responses are correct, but slower."""
    if settings.redis_url in {None, "none"}:
        return Check(
            "cache", "ok", "none is configured: each collector has its own; share one among several with --redis-url"
        )
    url = str(settings.redis_url)
    address = masked(url)
    client = redis.asyncio.Redis.from_url(connection_url(url), retry=Retry(NoBackoff(), 0))
    try:
        async with asyncio.timeout(CACHE_PATIENCE_S):
            await client.ping()
            started_s = time.monotonic()
            info: dict[str, Any] = await client.info()
            elapsed_s = time.monotonic() - started_s
    except (RedisError, OSError) as error:
        advice = "start it, or correct the address and the password; until then, reads go to the database"
        return Check("cache", "warning", f"{address}: {failure_reason.reason_of(error, url)}", advice)
    finally:
        await client.aclose()
    policy, max_memory = info.get("maxmemory_policy", "unknown"), int(info.get("maxmemory", 0))
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info.get('redis_version', '?')}"
    limit = f"at most {max_memory / 2**20:.0f} MiB" if max_memory else "no memory limit"
    detail = f"{name} at {address}, {limit}, {policy}, responds in {elapsed_s * 1000:.1f} ms"
    advice = (
        "set maxmemory, and maxmemory-policy to allkeys-lru: the cache may drop any entry, but a full one accepts none"
    )
    return judged("cache", "warning" if policy == "noeviction" else "ok", without_secrets(detail, url), advice)
