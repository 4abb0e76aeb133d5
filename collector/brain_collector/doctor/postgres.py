"""The doctor's look at what Postgres promises: which one it is, what it can lose, what our sessions get of it."""

import time
from datetime import UTC, datetime
from typing import Final

import asyncpg

from brain_collector.doctor.check import Check, Examination, Status, judged
from brain_collector.storage import migrate
from brain_collector.storage.migrate import schema_problem

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

_PROMISES: Final = """
    SELECT name, reset_val FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'synchronous_standby_names')
"""

_STANDBYS: Final = """
    SELECT application_name AS name, state, sync_state, coalesce(extract(epoch FROM replay_lag), 0)::float8 AS lag_s
    FROM pg_stat_replication ORDER BY 1
"""


async def server(case: Examination) -> list[Check]:
    """Say which Postgres answers, whether it takes writes, how far away it is, and what time it has."""
    row = await case.connection.fetchrow(_SERVER)
    assert row is not None
    detail = f"PostgreSQL {row['version']} at {migrate.without_password(case.settings.dsn)}"
    if row["read_only"]:
        advice = "name all hosts and target_session_attrs=read-write in the address; collectors answer 503 meanwhile"
        found = Check("postgres", "problem", f"{detail} is a standby, or read-only", advice)
    elif row["major"] < OLDEST_MAJOR:
        found = Check("postgres", "problem", f"{detail} is too old", f"upgrade it to {OLDEST_MAJOR} or later")
    else:
        found = Check("postgres", "ok", detail)
    took_s, ahead_s = min([await _round_trip(case.connection) for _ in range(5)])
    return [found, _latency(took_s), _clock(ahead_s, took_s)]


async def _round_trip(connection: asyncpg.Connection) -> tuple[float, float]:
    """Return how long it takes, and how far the database's clock is ahead of this machine's."""
    sent, began_s = datetime.now(UTC), time.monotonic()
    theirs = await connection.fetchval("SELECT clock_timestamp()")
    took_s = time.monotonic() - began_s
    return took_s, (theirs - sent).total_seconds() - took_s / 2


def _latency(took_s: float) -> Check:
    status: Status = "warning" if took_s * 1000 > FAR_MS else "ok"
    advice = "a commit takes several: run the collector near its database"
    return judged("latency", status, f"a round trip takes {took_s * 1000:.1f} ms", advice)


def _clock(ahead_s: float, took_s: float) -> Check:
    status: Status = "warning" if abs(ahead_s) > MAX_SKEW_S + took_s else "ok"
    detail = f"the database's is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    return judged("clock", status, detail, "correct the wrong one (timedatectl): collectors make days by their own")


async def schema(case: Examination) -> list[Check]:
    """Say whether this release can work with the schema; one that is newer is fine."""
    problem = await schema_problem(case.connection)
    if problem:
        return [
            Check(
                "schema", "problem", problem.removesuffix(": run `brain-events migrate`"), "run `brain-events migrate`"
            )
        ]
    return [Check("schema", "ok", f"at {await migrate.revision_of(case.connection)}, this release has {migrate.HEAD}")]


async def durability(case: Examination) -> list[Check]:
    """Look for settings by which what was acknowledged can be lost."""
    has = {row["name"]: row["reset_val"] for row in await case.connection.fetch(_PROMISES)}
    crash = (
        "set it to on and restart Postgres: what was acknowledged can be lost, or the whole database, with the power"
    )
    found = [
        judged(name, "ok" if has[name] == "on" else "problem", f"is {has[name]}", crash)
        for name in ("fsync", "full_page_writes")
    ]
    server, ours = has["synchronous_commit"], case.session["synchronous_commit"]
    status: Status = "problem" if ours in WEAK else "warning" if server in WEAK else "ok"
    advice = (
        "collectors raise it for themselves, other writers (psql, restores) get the server's: "
        "ALTER DATABASE and ALTER ROLE ... RESET synchronous_commit, or on in postgresql.conf"
    )
    found.append(judged("sync commit", status, f"the server gives {server}, a collector's session has {ours}", advice))
    sums = has["data_checksums"]
    advice = "a disk that returns wrong bytes goes unnoticed: stop Postgres, pg_checksums --enable"
    return [*found, judged("checksums", "ok" if sums == "on" else "warning", f"data_checksums is {sums}", advice)]


async def replication(case: Examination) -> list[Check]:
    """Say who copies the data, and what is lost with the server."""
    has = {row["name"]: row["reset_val"] for row in await case.connection.fetch(_PROMISES)}
    wanted = has["synchronous_standby_names"]
    rows = await case.connection.fetch(_STANDBYS)
    standbys = ", ".join(f"{row['name']} ({row['sync_state']}, {row['lag_s']:.1f} s behind)" for row in rows)
    synchronous = any(row["sync_state"] in {"sync", "quorum"} for row in rows)
    if wanted and not synchronous:
        detail = f"commits wait for {wanted!r}, which is not connected (connected: {standbys or 'none'})"
        advice = "bring that standby back; until then collectors answer 503, and nothing is lost"
        return [Check("replication", "problem", detail, advice)]
    if not rows:
        detail = "one server, no standby: a lost server loses everything since the last backup"
        return [Check("replication", "ok", detail)]
    if synchronous:
        detail = f"synchronous: a lost server loses nothing once its standby is promoted; {standbys}"
    else:
        detail = f"asynchronous: a lost server loses what had not been replicated, usually the last second; {standbys}"
    late = max(row["lag_s"] for row in rows) > MAX_LAG_S
    return [judged("replication", "warning" if late else "ok", detail, "see why it is late: its disk, the network")]


async def session(case: Examination) -> list[Check]:
    """Look whether our sessions get the limits that they ask for: without them one that hangs holds up all."""
    settings, has = case.settings, case.session
    wanted = {
        "lock_timeout": settings.lock_deadline_s,
        "statement_timeout": settings.write_deadline_s,
        "idle_in_transaction_session_timeout": 2 * settings.write_deadline_s,
    }
    wrong = [
        f"{name} is {has[name]} ms in place of {int(s * 1000)}"
        for name, s in wanted.items()
        if has[name] != str(int(s * 1000))
    ]
    if wrong:
        advice = "a pooler or a login trigger takes them away: let these startup parameters through"
        return [Check("session", "problem", "; ".join(wrong), advice)]
    shown = ", ".join(f"{name} {has[name]} ms" for name in wanted)
    return [Check("session", "ok", f"a collector's session has {shown}")]
