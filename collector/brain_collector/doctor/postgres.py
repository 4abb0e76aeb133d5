"""The checks of the Postgres server: version, schema, durability, and standbys."""

import time
from datetime import UTC, datetime
from typing import Final

import asyncpg

from brain_collector.addresses.masking import masked
from brain_collector.doctor.check import Check, Examination, Status, judged
from brain_collector.storage.durability import DURABLE
from brain_collector.storage.schema_version import HEAD, revision_of, schema_problem

OLDEST_MAJOR: Final = 15
FAR_MS: Final = 50.0
MAX_SKEW_S: Final = 2.0
MAX_LAG_S: Final = 60.0
WEAK: Final = ("off", "local", "remote_write")

_SERVER: Final = """
    SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
        pg_is_in_recovery()
        OR (SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only') = 'on' AS read_only
"""

_DURABILITY: Final = """
    SELECT name, reset_val FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'synchronous_standby_names')
"""

_RAISED: Final = f"SELECT current_setting('synchronous_commit') WHERE {DURABLE}"

_STANDBYS: Final = """
    SELECT application_name AS name, state, sync_state, coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag_s
    FROM pg_stat_replication ORDER BY 1
"""


async def server(examination: Examination) -> list[Check]:
    """Report the server's version, whether it accepts writes, its latency and its clock."""
    row = await examination.connection.fetchrow(_SERVER)
    assert row is not None
    detail = f"PostgreSQL {row['version']} at {masked(examination.settings.session_dsn)}"
    if row["read_only"]:
        advice = "name all hosts and target_session_attrs=read-write in the address; until then, collectors return 503"
        check = Check("postgres", "problem", f"{detail} is a standby, or read-only", advice)
    elif row["major"] < OLDEST_MAJOR:
        check = Check("postgres", "problem", f"{detail} is too old", f"upgrade it to {OLDEST_MAJOR} or later")
    else:
        check = Check("postgres", "ok", detail)
    elapsed_s, ahead_s = min([await _round_trip(examination.connection) for _ in range(5)])
    return [check, _latency(elapsed_s), _clock(ahead_s, elapsed_s)]


async def _round_trip(connection: asyncpg.Connection) -> tuple[float, float]:
    """Return the time of a round trip, and how far the server's clock is ahead of this machine's."""
    sent, started_s = datetime.now(UTC), time.monotonic()
    server_time = await connection.fetchval("SELECT clock_timestamp()")
    elapsed_s = time.monotonic() - started_s
    return elapsed_s, (server_time - sent).total_seconds() - elapsed_s / 2


def _latency(elapsed_s: float) -> Check:
    status: Status = "warning" if elapsed_s * 1000 > FAR_MS else "ok"
    advice = "a commit takes several round trips: run the collector near its database"
    return judged("latency", status, f"a round trip takes {elapsed_s * 1000:.1f} ms", advice)


def _clock(ahead_s: float, elapsed_s: float) -> Check:
    status: Status = "warning" if abs(ahead_s) > MAX_SKEW_S + elapsed_s else "ok"
    detail = f"the clock of the server is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    return judged(
        "clock",
        status,
        detail,
        "correct the wrong clock (timedatectl): collectors create the partitions of days by their own clock",
    )


async def schema(examination: Examination) -> list[Check]:
    """Report whether this release can use the schema; a newer schema is fine."""
    problem = await schema_problem(examination.connection)
    if problem:
        detail, _, advice = problem.partition(": ")
        return [Check("schema", "problem", detail, advice)]
    return [Check("schema", "ok", f"at {await revision_of(examination.connection)}; this release needs {HEAD}")]


async def durability(examination: Examination) -> list[Check]:
    """Find settings that can lose acknowledged events."""
    values = {row["name"]: row["reset_val"] for row in await examination.connection.fetch(_DURABILITY)}
    crash = "set it to on and restart Postgres: a power failure can lose acknowledged events, or the entire database"
    checks = [
        judged(name, "ok" if values[name] == "on" else "problem", f"{name} is {values[name]}", crash)
        for name in ("fsync", "full_page_writes")
    ]
    server, raised = values["synchronous_commit"], await examination.connection.fetchval(_RAISED)
    status: Status = "problem" if raised in WEAK else "warning" if server in WEAK else "ok"
    advice = (
        "collectors raise it in each transaction that they acknowledge; other writers (psql, restores) use the "
        "server's value: ALTER DATABASE and ALTER ROLE ... RESET synchronous_commit, or set it to on in postgresql.conf"
    )
    detail = f"synchronous_commit is {server} on the server, {raised} in a collector's transactions"
    checks.append(judged("sync commit", status, detail, advice))
    checksums = values["data_checksums"]
    advice = (
        "without checksums, a disk that returns wrong bytes is not noticed: stop Postgres, run pg_checksums --enable"
    )
    status = "ok" if checksums == "on" else "warning"
    return [*checks, judged("checksums", status, f"data_checksums is {checksums}", advice)]


async def replication(examination: Examination) -> list[Check]:
    """Report the standbys, and what the loss of the server would lose."""
    values = {row["name"]: row["reset_val"] for row in await examination.connection.fetch(_DURABILITY)}
    required = values["synchronous_standby_names"]
    rows = await examination.connection.fetch(_STANDBYS)
    standbys = ", ".join(f"{row['name']} ({row['sync_state']}, {row['lag_s']:.1f} s behind)" for row in rows)
    synchronous = any(row["sync_state"] in {"sync", "quorum"} for row in rows)
    if required and not synchronous:
        detail = f"commits wait for {required!r}, which is not connected (connected: {standbys or 'none'})"
        advice = "restore that standby; until then, collectors return 503, and nothing is lost"
        return [Check("replication", "problem", detail, advice)]
    if not rows:
        detail = "one server, no standby: losing the server loses all events since the last backup"
        return [Check("replication", "ok", detail)]
    if synchronous:
        detail = f"synchronous: losing the server loses nothing, once its standby is promoted; {standbys}"
    else:
        detail = (
            f"asynchronous: losing the server loses what was not replicated yet, usually the last second; {standbys}"
        )
    late = max(row["lag_s"] for row in rows) > MAX_LAG_S
    return [
        judged(
            "replication",
            "warning" if late else "ok",
            detail,
            "find out why the standby is behind: its disk, or the network",
        )
    ]
