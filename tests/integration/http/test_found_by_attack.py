"""Failures found by attacking the collector: Postgres hangs, networks fail at the worst moment, bodies are huge.

Each test bears the name of what went wrong. No time is asserted but by `asyncio.timeout`: it must not hang.
"""

import asyncio
import gzip
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import text

from brain_collector.errors import Unavailable
from brain_collector.read.store import Store
from brain_collector.settings import ENV_PREFIX, Settings
from brain_collector.storage import migrate
from brain_events.wire import BATCH_PATH, NDJSON, new_key
from tests.conftest import Serve
from tests.support.collector import (
    FOREIGN,
    collector_process,
    connected,
    count_foreign,
    create,
    event,
    ndjson,
    new_database,
    own_events,
    post_batch,
    sql,
    started,
)
from tests.support.engines import SuiteEngines
from tests.support.proxy import Fate, Proxy, proxied
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

MEBIBYTE = 2**20
BOUND_S = PATIENCE_S


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A proxy to the test's database."""
    with proxied(database_url) as found:
        yield found


async def waiting_backends(dsn: str, what: str, *, n: int, unless: Callable[[], bool] = lambda: False) -> None:
    """Return when n backends of the test's database wait to store events: for a "Lock", or a standby ("SyncRep")."""

    async def so_many() -> bool:
        waiting = await sql(
            dsn,
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%INTO batches%'"
            " AND $1 IN (wait_event_type, wait_event)",
            what,
        )
        return len(waiting) == n or unless()

    await eventually(so_many, f"{n} backends wait: {what}")


# -- a Postgres that hangs


async def test_a_copy_that_fills_the_send_buffer_does_not_block_a_writer_for_good(
    database_url: str, proxy: Proxy
) -> None:
    large = ndjson(*[event(message="x" * 8_000)] * 500)
    given = {"WRITERS": "3", "GROUP_ROWS": "1", "WRITE_DEADLINE_S": "2", "LOCK_DEADLINE_S": "30"}
    # In a process of its own: asyncpg leaves a future behind, which the test's loop would complain about.
    with collector_process(
        "--database-url", proxy.url, **{ENV_PREFIX + name: given[name] for name in given}
    ) as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=BOUND_S) as client:
            await started(database_url)
            proxy.rule = lambda chunk: Fate.STALL if b"COPY" in chunk else Fate.PASS
            stalled = await asyncio.gather(*(post_batch(client, large, key=new_key()) for _ in range(3)))
            assert [answer.status_code for answer in stalled] == [503, 503, 503]
            proxy.restore()
            proxy.cut()  # else the server keeps the transactions of those COPYs open

            async def takes_writes() -> bool:
                return (await client.post("/api/events", json=event())).status_code == 201

            await eventually(takes_writes, "one writer writes again")
            async with connected(database_url) as connection:
                locking = connection.transaction()
                await locking.start()
                await connection.execute("LOCK TABLE batches")
                posts = [asyncio.create_task(client.post("/api/events", json=event())) for _ in range(3)]
                await waiting_backends(database_url, "Lock", n=3)  # each writer holds one of them
                await locking.rollback()
                await asyncio.gather(*posts)


class LosesRollbacks:
    """A rule that freezes each connection at its ROLLBACK, and counts them."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self, chunk: bytes) -> Fate:
        if b"ROLLBACK" not in chunk:
            return Fate.PASS
        self.n += 1
        return Fate.FREEZE


async def lose(client: httpx.AsyncClient, proxy: Proxy, *, n: int) -> None:
    """Have the network lost during n rollbacks; of those connections, neither end hears again."""
    proxy.rule = losing = LosesRollbacks()
    async with asyncio.timeout(BOUND_S):
        while losing.n < n:
            await asyncio.gather(*(client.put("/api/events/999999999", json={"message": "m"}) for _ in range(2)))
    proxy.restore()


async def reads(client: httpx.AsyncClient, *, n: int) -> list[int]:
    """Read n different things at once; return the statuses."""
    async with asyncio.timeout(BOUND_S):
        answers = await asyncio.gather(*(client.get(f"/api/events?source={number}") for number in range(n)))
    return [answer.status_code for answer in answers]


FEW_READERS = {"read_connections": 2, "read_deadline_s": 2.0, "connect_deadline_s": 2.0}


async def test_a_network_lost_during_rollback_costs_no_place_in_the_pool(
    settings: Settings, proxy: Proxy, serve: Serve
) -> None:
    async with serve(settings, database_url=proxy.url, **FEW_READERS) as client:
        assert await reads(client, n=2) == [200, 200]
        await lose(client, proxy, n=3)

        assert await reads(client, n=2) == [200, 200]


async def test_a_network_lost_while_the_pool_makes_its_first_connection_costs_no_place_in_it(
    settings: Settings, proxy: Proxy, serve: Serve
) -> None:
    async with serve(settings, database_url=proxy.url, **FEW_READERS) as client:
        await lose(client, proxy, n=1)  # SQLAlchemy rolls back what it asked its first server

        assert await reads(client, n=2) == [200, 200]


# -- a COMMIT whose outcome is open


def all_done(tasks: list[asyncio.Task[Any]]) -> bool:
    return all(task.done() for task in tasks)


@asynccontextmanager
async def absent_standby(dsn: str) -> AsyncIterator[None]:
    """Let every COMMIT on the server wait for a standby that never comes, until the end of the block."""

    async def set_standby(name: str) -> None:
        await sql(dsn, f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        await sql(dsn, "SELECT pg_reload_conf()")

        async def known() -> bool:
            return await sql(dsn, "SHOW synchronous_standby_names") == [(name,)]

        await eventually(known, "the server knows of its standby")

    await set_standby("nobody")
    try:
        yield
    finally:
        await set_standby("")
        await sql(dsn, "ALTER SYSTEM RESET synchronous_standby_names")


async def test_a_keyless_event_whose_commit_was_cut_off_is_not_acknowledged_once_and_stored_twice(
    settings: Settings, proxy: Proxy, serve: Serve
) -> None:
    async with serve(settings, database_url=proxy.url, writers=1, lock_deadline_s=0.3) as client:
        await started(settings.dsn)
        async with absent_standby(settings.dsn):
            posts = [asyncio.create_task(client.post("/api/events", json=event(message=str(n)))) for n in range(20)]
            for n in (1, 2):  # the first group may be one event, or all of them
                await waiting_backends(settings.dsn, "SyncRep", n=n, unless=lambda: all_done(posts))
                proxy.cut()
            await waiting_backends(settings.dsn, "SyncRep", n=3, unless=lambda: all_done(posts))
        await asyncio.gather(*posts)
        status_of = {str(n): post.result().status_code for n, post in enumerate(posts)}
        await waiting_backends(settings.dsn, "SyncRep", n=0)
        rows = await sql(settings.dsn, f"SELECT message, count(*) FROM system_events WHERE {FOREIGN} GROUP BY 1")

    assert set(status_of.values()) <= {201, 503}
    assert len(rows) == 20
    assert {message: n for message, n in rows if status_of[message] == 201 and n > 1} == {}


async def test_a_keyed_batch_whose_commit_was_cut_off_is_a_duplicate_when_it_is_sent_again(
    settings: Settings, proxy: Proxy, serve: Serve
) -> None:
    body, key = ndjson(*[event()] * 300), new_key()  # enough for a COPY, and a COMMIT of its own
    async with serve(settings, database_url=proxy.url) as client:
        await started(settings.dsn)
        proxy.rule = lambda chunk: Fate.CUT if b"COMMIT" in chunk else Fate.PASS
        first = await post_batch(client, body, key=key)
        proxy.restore()
        again = await post_batch(client, body, key=key)

    assert (first.status_code, again.status_code) == (503, 200)
    assert (again.json()["duplicate"], again.json()["accepted"]) == (True, 300)
    assert await count_foreign(settings.dsn) == 300


# -- greedy bodies


def zeros(separator: bytes) -> bytes:
    """Return 15 million zeros."""
    return b"0" + (separator + b"0") * 15_000_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        pytest.param(NDJSON, lambda: zeros(b"\n"), id="lines"),
        pytest.param(NDJSON, lambda: b"\n" * 30_000_000, id="blank_lines"),
        pytest.param("application/json", lambda: b"[" + zeros(b",") + b"]", id="array"),
    ],
)
async def test_millions_of_events_are_refused_before_memory_is_spent_on_them(
    database_url: str, media_type: str, body: Callable[[], bytes]
) -> None:
    headers = {"Content-Type": media_type, "Content-Encoding": "gzip"}
    with collector_process("--database-url", database_url, "--redis-url", "none") as process:
        sent = gzip.compress(body(), 6)
        answer = httpx.post(process.url + BATCH_PATH, content=sent, headers=headers, timeout=BOUND_S)

        assert answer.status_code == 413
        assert peak_mebibytes(process._popen.pid) < 500


def peak_mebibytes(pid: int) -> int:
    """Return the most memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@asynccontextmanager
async def slow_bodies(client: httpx.AsyncClient, n: int, bytes_each: int) -> AsyncIterator[None]:
    """Have n bodies sent that each lack their last byte, until the end of the block."""
    tasks = [asyncio.create_task(_send_slowly(client, bytes_each)) for _ in range(n)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _send_slowly(client: httpx.AsyncClient, n_bytes: int) -> None:
    """Send all but one byte of a body, and again when it was refused: a probe was in its way."""
    head = f"POST {BATCH_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\nContent-Length: {n_bytes}"
    while True:
        reading, sending = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        try:
            with suppress(ConnectionError):
                sending.write(head.encode() + b"\r\n\r\n" + b"x" * (n_bytes - 1))
                await reading.read(1)
        finally:
            sending.transport.abort()


def answered(ask: Callable[[], Awaitable[httpx.Response]], status: int) -> Callable[[], Awaitable[bool]]:
    """Return the condition that a request is answered so."""

    async def condition() -> bool:
        return (await ask()).status_code == status

    return condition


async def test_slow_bodies_hold_no_more_together_than_they_may(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_pending_bytes=12 * MEBIBYTE) as client:  # a body counts three times
        a_body = ndjson(event(message="x" * 1_000))

        def post() -> Awaitable[httpx.Response]:
            return post_batch(client, a_body)

        async with slow_bodies(client, 4, MEBIBYTE):
            await eventually(answered(post, 503), "the slow bodies have come")
            refused = await asyncio.gather(*(post() for _ in range(20)))
            assert {(answer.status_code, answer.headers.get("Retry-After")) for answer in refused} == {(503, "1")}
            assert (await client.get("/livez")).status_code == 200

        await eventually(answered(post, 200), "the slow bodies went away")
        taken = await asyncio.gather(*(post() for _ in range(20)))
        assert {answer.status_code for answer in taken} == {200}


async def test_a_gzip_bomb_is_not_inflated_beside_other_bodies(settings: Settings, serve: Serve) -> None:
    bomb = gzip.compress(b" " * 8 * MEBIBYTE)
    async with serve(settings, max_pending_bytes=8 * MEBIBYTE) as client:

        def post() -> Awaitable[httpx.Response]:
            return post_batch(client, bomb, content_encoding="gzip")

        async with slow_bodies(client, 1, 1_000):
            await eventually(answered(post, 503), "the slow body has come")
            assert (await post()).headers["Retry-After"] == "1"
        await eventually(answered(post, 422), "alone, the bomb is inflated, and found to be empty")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
async def test_many_gzip_bombs_at_once_cost_no_more_memory_than_a_few(database_url: str) -> None:
    bomb = gzip.compress(b" " * 8 * MEBIBYTE)
    with collector_process("--database-url", database_url, "--redis-url", "none") as process:
        async with httpx.AsyncClient(base_url=process.url, timeout=BOUND_S) as client:
            answers = await asyncio.gather(*(post_batch(client, bomb, content_encoding="gzip") for _ in range(40)))

        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {422, 503}
        assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 503)
        assert peak_mebibytes(process._popen.pid) < 500


# -- the cache


async def test_an_invalidation_that_did_not_reach_redis_is_made_good_without_any_read(
    settings: Settings, serve: Serve
) -> None:
    assert settings.redis_url is not None
    with proxied(settings.redis_url) as way:
        async with serve(settings, redis_url=way.url) as a, serve(settings) as b:
            path = f"/api/events/{(await create(a, message='old'))['id']}"
            assert (await b.get(path)).json()["message"] == "old"
            way.refuse()
            changed = await a.put(path, json={"message": "new"})
            assert changed.status_code == 200
            assert (await b.get(path)).json()["message"] == "old"  # else there is nothing to make good
            way.restore()

            async def b_serves_the_new_one() -> bool:
                return bool((await b.get(path)).json()["message"] == "new")

            await eventually(b_serves_the_new_one, "B serves what A wrote")


# -- a database that answers and takes no writes


@contextmanager
def read_only(engines: SuiteEngines) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """Yield a database that refuses writes, and what lets it take them."""
    with new_database(engines, template="migrated") as url:
        name = url.partition("brain@/")[2].partition("?")[0]
        asyncio.run(sql(url, f"ALTER DATABASE {name} SET default_transaction_read_only = on"))
        yield url, lambda: sql(engines.maintenance_url, f"ALTER DATABASE {name} RESET default_transaction_read_only")


@contextmanager
def without_schema(engines: SuiteEngines) -> Iterator[tuple[str, Callable[[], Awaitable[Any]]]]:
    """Yield an empty database, and what migrates it."""
    with new_database(engines) as url:
        yield url, lambda: asyncio.to_thread(migrate.upgrade, url)


@pytest.fixture(params=[read_only, without_schema], ids=["read_only", "without_schema"])
def unwritable(engines: SuiteEngines, request: pytest.FixtureRequest) -> Iterator[Any]:
    with request.param(engines) as found:
        yield found


async def test_a_database_that_takes_no_writes_is_lost_once_and_back_once(
    unwritable: tuple[str, Callable[[], Awaitable[Any]]],
    settings: Settings,
    serve: Serve,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url, mend = unwritable
    probes = []

    def count_probes(chunk: bytes) -> Fate:
        probes.extend([chunk] if b"UPDATE jobs SET name" in chunk else [])
        return Fate.PASS

    with proxied(url) as proxy:
        proxy.rule = count_probes
        async with serve(settings, database_url=proxy.url, api_key="k") as client:
            client.headers["Authorization"] = "Bearer k"  # the one key that is good without the table of keys

            async def several_rounds() -> bool:
                await client.post("/api/events", json=event())
                return len(probes) >= 4

            await eventually(several_rounds, "the monitor has tried to write several times")
            health = (await client.get("/health")).json()
            assert (health["status"], health["database"]) == ("degraded", "down")
            printed = Counter(re.findall(r'"event_type":"(database_\w+)"', capsys.readouterr().out))
            assert printed == {"database_lost": 1}
            await mend()

            async def is_back() -> bool:
                return bool(await own_events(url, "database_back"))

            async def knows_table() -> bool:
                return await sql(url, "SELECT to_regclass('system_events') IS NOT NULL") == [(True,)]

            assert await knows_table()
            await eventually(is_back, "the database is back")
            assert (await client.post("/api/events", json=event())).status_code == 201
            assert (await client.get("/health")).json()["database"] == "up"
    assert (len(await own_events(url, "database_lost")), len(await own_events(url, "database_back"))) == (1, 1)


# -- connections that died in the pool


@pytest.mark.parametrize("asked", ["GET /readyz", "GET /health/db", "GET {path}", "PUT {path}", "DELETE {path}"])
async def test_the_first_request_after_every_connection_was_killed_succeeds(
    settings: Settings, serve: Serve, asked: str
) -> None:
    method, path = asked.split()
    async with serve(settings) as client:
        created = await create(client)
        opened = await asyncio.gather(*(client.get(f"/api/events?source={n}") for n in range(20)))
        assert {answer.status_code for answer in opened} == {200}
        await kill_backends(settings.dsn)
        body = {"message": "new"} if method == "PUT" else None
        answer = await client.request(method, path.format(path=f"/api/events/{created['id']}"), json=body)

    assert answer.status_code == (204 if method == "DELETE" else 200)


async def test_a_connection_that_was_closed_after_a_change_of_the_schema_is_replaced(settings: Settings) -> None:
    store = Store(msgspec.structs.replace(settings, read_connections=1))
    query = text("SELECT * FROM jobs")
    try:
        n = len(await store.fetch(query))
        await sql(settings.dsn, "ALTER TABLE jobs ADD COLUMN other text")
        with pytest.raises(Unavailable, match="cached statement plan is invalid"):
            await store.fetch(query)
        store.abandon()  # SQLAlchemy then has the driver forget the types of a connection that is closed

        assert len(await store.fetch(query)) == n
    finally:
        await store.close()


async def kill_backends(dsn: str) -> None:
    """End every session of the collector; return when they are gone."""
    of_collector = "datname = current_database() AND application_name = 'brain-events'"
    killed = await sql(dsn, f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of_collector}")
    pids = [pid for pid, _ in killed]
    assert len(pids) > 1

    async def gone() -> bool:
        return not await sql(dsn, "SELECT pid FROM pg_stat_activity WHERE pid = ANY($1::int[])", pids)

    await eventually(gone, "every session has ended")
