"""The cache, in the process and in a real Valkey that is flushed, killed, stopped, and restored to an older state."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from brain_collector.cache import Cache, CacheScope, MemoryCache, RedisCache, open_cache
from brain_collector.cache.memory import ENTRY_BYTES
from brain_collector.cache.redis import LOST_AFTER_S
from brain_collector.embedded import datadir, valkey
from brain_collector.embedded.supervisor import Supervised
from brain_collector.errors import SettingsError
from brain_collector.metrics import Metrics
from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import create, new_database, sql
from tests.support.effort import times
from tests.support.engines import SuiteEngines, scratch_dir
from tests.support.repeating import repeating_redis
from tests.support.waiting import PATIENCE_S, wait_until

pytestmark = pytest.mark.anyio
LONG_S = 60.0


class Server:
    """A Valkey of our own, to be maltreated."""

    def __init__(self, directory: Path) -> None:
        owner = datadir.choose_owner(directory, None)
        self.sockets = datadir.socket_dir(directory, owner)
        self._program = valkey.program(directory, self.sockets, owner)
        self._supervised = Supervised(self._program)
        self.url = valkey.url(self.sockets)

    def start(self) -> None:
        def is_up() -> bool:
            self._supervised.step()
            return self._supervised.ready

        wait_until(is_up)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.stop()
        self._supervised = Supervised(self._program)  # one without a back-off

    def stop(self) -> None:
        self._supervised.stop(5.0)

    def signal(self, number: signal.Signals) -> None:
        pid = self._supervised.status.pid
        assert pid is not None
        os.kill(pid, number)

    def tell(self, *words: str) -> str:
        """Send one command, as some other client would."""
        command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(self.url.removeprefix("unix://"))
            connection.sendall(command.encode())
            return connection.recv(65536).decode()

    def token(self, scope: CacheScope) -> str:
        return self.tell("GET", f"brain:test:gen:{scope}").split("\r\n")[1]


class Truth:
    """What the database would say: counts how often it was asked, and changes when it is told to."""

    def __init__(self) -> None:
        self.version = 0
        self.asked = 0

    async def fill(self) -> bytes:
        self.asked += 1
        return self.now

    @property
    def now(self) -> bytes:
        return f"version {self.version}".encode()

    async def write(self, cache: Cache, scope: CacheScope = CacheScope.LIST) -> None:
        self.version += 1
        await cache.invalidate(scope)

    async def read(self, cache: Cache, scope: CacheScope = CacheScope.LIST) -> bytes:
        return await cache.get_or_fill(scope, "key", LONG_S, self.fill)


@pytest.fixture(scope="module")
def running_server() -> Iterator[Server]:
    with scratch_dir() as directory:
        server = Server(directory)
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def server(running_server: Server) -> Server:
    running_server.start()
    running_server.tell("FLUSHALL")
    return running_server


@asynccontextmanager
async def opened(cache: Cache) -> AsyncIterator[Cache]:
    try:
        yield cache
    finally:
        await cache.close()


def connect(server: Server, lost_after_s: float = LOST_AFTER_S, patience_s: float = 0.5) -> RedisCache:
    return cache_at(server.url, retry_interval_s=0.01, patience_s=patience_s, lost_after_s=lost_after_s)


def cache_at(url: str, **options: float) -> RedisCache:
    cache = RedisCache(url, Metrics(), **options)
    cache.use_database("test")
    return cache


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[Cache]:
    if request.param == "memory":
        cache: Cache = MemoryCache(Metrics())
    else:
        cache = connect(request.getfixturevalue("server"), patience_s=PATIENCE_S)  # a busy machine is not a failure
    async with opened(cache):
        await warm(cache)
        yield cache


async def warm(cache: Cache) -> None:
    """A new connection is not trusted at first; a value that comes back without a fill shows that it is now."""

    async def is_trusted(scope: CacheScope) -> bool:
        truth = Truth()
        for _ in range(2):
            await cache.get_or_fill(scope, "warm", LONG_S, truth.fill)
        return truth.asked < 2

    for scope in CacheScope:
        await eventually(partial(is_trusted, scope))


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():
            await asyncio.sleep(0.01)


# Both caches.


async def test_a_value_is_made_once_and_then_served(cache: Cache) -> None:
    truth = Truth()
    assert [await cache.get_or_fill(CacheScope.ONE, "a", LONG_S, truth.fill) for _ in range(3)] == [truth.now] * 3
    assert truth.asked == 1


async def test_after_an_invalidation_the_value_is_made_anew(cache: Cache) -> None:
    truth = Truth()
    await truth.read(cache)
    await truth.write(cache)
    assert await truth.read(cache) == b"version 1"


async def test_the_scopes_have_generations_of_their_own(cache: Cache) -> None:
    events, event = Truth(), Truth()
    await events.read(cache, CacheScope.LIST)
    await event.read(cache, CacheScope.ONE)
    await cache.invalidate(CacheScope.LIST)
    await events.read(cache, CacheScope.LIST)
    await event.read(cache, CacheScope.ONE)
    assert (events.asked, event.asked) == (2, 1)


async def test_a_value_lives_no_longer_than_its_time(cache: Cache) -> None:
    truth = Truth()

    async def made_again() -> bool:
        await cache.get_or_fill(CacheScope.ONE, "short", 0.05, truth.fill)
        return truth.asked == 2

    await eventually(made_again)


async def test_a_value_whose_making_began_before_a_write_is_served_to_nobody_after_it(cache: Cache) -> None:
    read_old, go_on = asyncio.Event(), asyncio.Event()

    async def slow_fill() -> bytes:
        read_old.set()
        await go_on.wait()
        return b"version 0"

    truth = Truth()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        early = group.create_task(cache.get_or_fill(CacheScope.LIST, "key", LONG_S, slow_fill))
        await read_old.wait()
        await truth.write(cache)
        assert await truth.read(cache) == b"version 1"  # neither waits for the one that is under way, nor takes it
        go_on.set()
    assert early.result() == b"version 0"
    assert await truth.read(cache) == b"version 1"


async def _wait_in_flight(callers: "list[asyncio.Task[bytes]]") -> bool:
    """Whether each of the callers has joined the single flight, having asked the cache in vain."""

    def awaited(coroutine: Any) -> Iterator[str]:
        while coroutine is not None:
            yield getattr(coroutine, "__qualname__", "")
            coroutine = getattr(coroutine, "cr_await", None)

    return all("SingleFlight.join" in awaited(caller.get_coro()) for caller in callers)


async def test_one_caller_fills_and_the_others_wait_for_it(cache: Cache) -> None:
    truth = Truth()
    all_wait = asyncio.Event()

    async def slow_fill() -> bytes:
        await all_wait.wait()
        return await truth.fill()

    callers = [asyncio.create_task(cache.get_or_fill(CacheScope.ONE, "a", LONG_S, slow_fill)) for _ in range(10)]
    await eventually(lambda: _wait_in_flight(callers))
    all_wait.set()
    assert await asyncio.gather(*callers) == [b"version 0"] * 10
    assert truth.asked == 1


async def test_an_error_reaches_all_who_wait_and_the_next_caller_tries_again(cache: Cache) -> None:
    async def failing_fill() -> bytes:
        await asyncio.sleep(0.05)
        raise LookupError("no database")

    answers = await asyncio.gather(
        *(cache.get_or_fill(CacheScope.ONE, "a", LONG_S, failing_fill) for _ in range(3)), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [LookupError] * 3
    assert await cache.get_or_fill(CacheScope.ONE, "a", LONG_S, Truth().fill) == b"version 0"


@pytest.mark.parametrize("cancelled", [0, 1], ids=["the one who fills", "one who waits"])
async def test_a_cancelled_caller_takes_nobody_along(cache: Cache, cancelled: int) -> None:
    filling = asyncio.Event()

    async def slow_fill() -> bytes:
        filling.set()
        await asyncio.sleep(0.1)
        return b"made"

    callers = [asyncio.ensure_future(cache.get_or_fill(CacheScope.ONE, "a", LONG_S, slow_fill)) for _ in range(3)]
    await filling.wait()
    callers[cancelled].cancel()
    async with asyncio.timeout(PATIENCE_S):
        answers = await asyncio.gather(*callers, return_exceptions=True)
    assert isinstance(answers.pop(cancelled), asyncio.CancelledError)
    assert answers == [b"made"] * 2


async def test_cancelled_callers_leave_no_answer_behind_for_others(cache: Cache) -> None:
    """A connection whose caller has gone must not hand the answer to the next one."""
    chance = random.Random(1)

    def fill(key: str) -> Callable[[], Awaitable[bytes]]:
        async def value() -> bytes:
            return key.encode()

        return value

    for _ in range(300):
        keys = [f"key {chance.randrange(8)}" for _ in range(4)]
        calls = [asyncio.ensure_future(cache.get_or_fill(CacheScope.ONE, key, LONG_S, fill(key))) for key in keys]
        for _ in range(chance.randrange(6)):
            await asyncio.sleep(0)
        chance.choice(calls).cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        expected = [key.encode() for key in keys]
        assert [a for a in zip(answers, expected, strict=True) if a[0] != a[1] and isinstance(a[0], bytes)] == []


async def test_a_key_may_hold_any_text(cache: Cache) -> None:
    assert await cache.get_or_fill(CacheScope.ONE, "\udcff \n\x00 ü", LONG_S, Truth().fill) == b"version 0"


# In the process.


async def test_the_memory_cache_holds_no_more_bytes_than_it_may_and_drops_the_least_recently_used() -> None:
    cache, truth = (
        MemoryCache(Metrics(), max_bytes=2 * (1 + 9 + ENTRY_BYTES)),
        Truth(),
    )  # a key has one byte, a value nine

    async def read(*keys: str) -> None:
        for key in keys:
            await cache.get_or_fill(CacheScope.ONE, key, LONG_S, truth.fill)

    await read("a", "b", "a", "c")
    assert truth.asked == 3
    await read("a", "c")
    assert truth.asked == 3
    await read("b")
    assert truth.asked == 4


def test_a_url_of_another_scheme_is_refused() -> None:
    with pytest.raises(SettingsError, match="must begin with redis://"):
        open_cache("http://localhost", Metrics())


async def test_without_a_url_the_cache_is_in_the_process() -> None:
    assert isinstance(open_cache(None, Metrics()), MemoryCache)


# In Redis.

STEPS = ("write a", "write b", "read a", "read b", "flush", "cut connections", "restart", "evict tokens", "wrong types")


@given(steps=st.lists(st.sampled_from(STEPS), max_size=25))
@effort(max_examples=times(40))
def test_two_collectors_on_one_redis_never_read_what_a_write_has_replaced(server: Server, steps: list[str]) -> None:
    async def run() -> None:
        truth, collectors = Truth(), {"a": connect(server), "b": connect(server)}
        async with opened(collectors["a"]), opened(collectors["b"]):
            for step in steps:
                match step.split():
                    case ["write", name]:
                        await truth.write(collectors[name])
                    case ["read", name]:
                        assert await truth.read(collectors[name]) == truth.now
                    case _:
                        disturb(server, step)
            for collector in collectors.values():
                assert await truth.read(collector) == truth.now

    asyncio.run(run())


def disturb(server: Server, step: str) -> None:
    match step:
        case "flush":
            server.tell("FLUSHALL")
        case "cut connections":
            server.tell("CLIENT", "KILL", "TYPE", "normal")
        case "restart":
            server.kill()
            server.start()
        case "evict tokens":
            server.tell("DEL", "brain:test:gen:events", "brain:test:gen:event")
        case "wrong types":
            for key in server.tell("KEYS", "brain:*").split("\r\n")[2::2]:
                server.tell("DEL", key)
                server.tell("RPUSH", key, "a list")


async def test_until_the_database_is_known_its_values_are_neither_cached_nor_looked_up(server: Server) -> None:
    async with opened(connect(server)) as reader, opened(RedisCache(server.url, Metrics())) as late:
        truth = Truth()
        await warm(reader)
        await truth.read(reader)
        names = server.tell("DBSIZE")
        assert await truth.read(late) == b"version 0"
        assert truth.asked == 2
        assert await late.evaluate("return {'ran'}", "name") is None
        assert server.tell("DBSIZE") == names
        await truth.write(late)
        late.use_database("test")

        async def is_made_anew() -> bool:  # what was written before is not forgotten
            await late.check()
            return await truth.read(reader) == b"version 1"

        await eventually(is_made_anew)


async def test_values_of_another_database_are_out_of_reach(cache: Cache) -> None:
    truth = Truth()
    cache.use_database("one")
    await warm(cache)
    await truth.read(cache)
    truth.version += 1
    cache.use_database("other")
    assert await truth.read(cache) == b"version 1"


async def test_a_hung_server_costs_nothing_but_the_cache_and_is_used_again_by_itself(server: Server) -> None:
    async with opened(connect(server)) as cache:
        await warm(cache)
        server.signal(signal.SIGSTOP)
        try:
            truth = Truth()
            await truth.read(cache)
            await truth.write(cache)
            assert await truth.read(cache) == b"version 1"
            assert await cache.check() == "down"
        finally:
            server.signal(signal.SIGCONT)

        async def is_used_again() -> bool:
            asked = truth.asked
            assert await truth.read(cache) == b"version 1"
            return truth.asked == asked

        await eventually(is_used_again)
        await eventually(partial(has_state, cache, "up"))


async def test_one_caller_at_a_time_looks_whether_a_hung_server_is_back() -> None:
    connections = 0

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.read()
        writer.close()

    with scratch_dir() as directory:
        listener = await asyncio.start_unix_server(hang, directory / "s")
        async with listener, opened(cache_at(f"unix://{directory}/s", retry_interval_s=0.2)) as cache:
            truth = Truth()

            async def a_second_connection_is_made() -> bool:
                await asyncio.gather(*(truth.read(cache, scope) for scope in CacheScope for _ in range(5)))
                return connections > 1

            await truth.read(cache)
            assert connections == 1
            await eventually(a_second_connection_is_made)
            assert connections == 2


async def test_a_killed_server_is_used_again_when_it_is_back(server: Server) -> None:
    async with opened(connect(server)) as cache:
        await warm(cache)
        truth = Truth()
        server.kill()
        await truth.write(cache)
        assert await truth.read(cache) == b"version 1"
        await eventually(partial(has_state, cache, "down"))
        server.start()
        await eventually(partial(has_state, cache, "up"))
        assert await truth.read(cache) == b"version 1"


async def has_state(cache: Cache, state: str) -> bool:
    return await cache.check() == state


async def test_a_hiccup_sends_requests_to_the_database_and_is_no_loss(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    hasty = cache_at(server.url, retry_interval_s=0.01, patience_s=0.02, lost_after_s=PATIENCE_S)
    async with opened(hasty) as cache:
        truth = Truth()
        await cache.check()
        server.signal(signal.SIGSTOP)
        try:
            for _ in range(3):
                assert await truth.read(cache) == b"version 0"
            assert truth.asked == 3
            assert cache.state == "up"
        finally:
            server.signal(signal.SIGCONT)
        assert await cache.check() == "up"

    assert caplog.messages == []


async def test_a_full_cache_is_logged_when_it_is_lost_and_when_it_is_back_and_not_in_between(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """It responds to every PING and every read, so each of them looked as if it were back."""
    async with opened(connect(server, lost_after_s=0.2)) as cache:
        await warm(cache)
        server.tell("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
        try:
            await eventually(partial(has_state, cache, "down"))
            truth = Truth()
            for version in range(30):
                await truth.write(cache)
                assert await truth.read(cache) == f"version {version + 1}".encode()
                assert await cache.check() == "down"
        finally:
            server.tell("CONFIG", "SET", "maxmemory-policy", "allkeys-lru", "maxmemory", "64mb")
        await eventually(partial(has_state, cache, "up"))

    refused, lost, back = caplog.messages
    assert "refuses a command (OOM" in refused or "refuses a command (command not allowed" in refused
    assert "is not available" in lost
    assert "available again" in back


async def test_a_wrong_password_is_named_as_the_cause(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    url = f"{server.url}?username=nobody&password=wrong"
    async with opened(cache_at(url, patience_s=PATIENCE_S, lost_after_s=0)) as cache:
        assert await cache.check() == "down"

    assert "it refuses the user or the password" in caplog.text
    assert "wrong" not in caplog.text


async def test_a_server_that_repeats_the_password_does_not_bring_it_into_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        repeating_redis() as address,
        opened(cache_at(f"redis://owner:Zq7x%2FWk3v@{address}", patience_s=PATIENCE_S, lost_after_s=0)) as cache,
    ):
        await cache.evaluate("return 1", "name")
        assert await cache.check() == "down"

    assert "***" in caplog.text
    assert "Zq7x" not in caplog.text


@pytest.mark.skipif(shutil.which("openssl") is None, reason="a certificate is made by openssl")
async def test_a_certificate_that_is_not_trusted_is_named_as_the_cause(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", *files]
    await asyncio.to_thread(subprocess.run, new, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    listener = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    url = f"rediss://localhost:{listener.sockets[0].getsockname()[1]}"
    async with listener, opened(cache_at(url, patience_s=PATIENCE_S, lost_after_s=0)) as cache:
        assert await cache.check() == "down"

    assert "its TLS certificate is not trusted: self-signed certificate" in caplog.text


async def test_after_an_invalidation_that_did_not_arrive_nothing_cached_is_trusted(server: Server) -> None:
    """The token and the value under it are put back as they were, as if the server had never heard of the write."""
    async with opened(connect(server)) as writer, opened(connect(server)) as reader:
        truth = Truth()
        await warm(writer)
        await warm(reader)
        await truth.read(reader)
        token = server.token(CacheScope.LIST)
        server.signal(signal.SIGSTOP)
        await truth.write(writer)
        server.signal(signal.SIGCONT)
        server.tell("SET", "brain:test:gen:events", token)
        assert await truth.read(reader) == b"version 0"  # cannot know; for a TTL at most

        async def writer_is_back() -> bool:
            return await writer.check() == "up"

        await eventually(writer_is_back)
        assert await truth.read(writer) == b"version 1"
        assert await truth.read(reader) == b"version 1"


async def test_a_server_restored_to_an_older_state_is_not_trusted(server: Server) -> None:
    """A failover to a replica that lags, or a restart from a snapshot: acknowledged tokens are gone."""
    async with opened(connect(server)) as writer, opened(connect(server)) as reader:
        truth = Truth()
        await warm(writer)
        await warm(reader)
        await truth.read(reader)
        token = server.token(CacheScope.LIST)
        name = f"brain:test:events:{token}:key"
        await truth.write(writer)
        server.kill()
        server.start()
        server.tell("SET", "brain:test:gen:events", token)
        server.tell("SET", name, f"{name}\nversion 0")
        assert await truth.read(reader) == b"version 1"


async def test_the_cache_works_again_after_wrong_types_under_its_keys(server: Server) -> None:
    async with opened(connect(server)) as cache:
        truth = Truth()
        await warm(cache)
        await truth.read(cache)
        disturb(server, "wrong types")
        assert await truth.read(cache) == truth.now
        asked = truth.asked
        assert await truth.read(cache) == truth.now
        assert truth.asked == asked


async def test_a_foreign_value_under_a_key_of_ours_is_not_served(server: Server) -> None:
    async with opened(connect(server)) as cache:
        truth = Truth()
        await warm(cache)
        await truth.read(cache)
        server.tell("SET", f"brain:test:events:{server.token(CacheScope.LIST)}:key", "foreign")
        assert await truth.read(cache) == truth.now


async def test_without_a_server_a_fill_is_only_for_those_who_came_before_it_began() -> None:
    """Another collector's write is told to nobody; still a crowd makes two fills, not a hundred."""
    read_old, go_on, truth = asyncio.Event(), asyncio.Event(), Truth()

    async def slow_fill() -> bytes:
        found = await truth.fill()
        read_old.set()
        await go_on.wait()
        await asyncio.sleep(0.01)
        return found

    cache = cache_at("unix:///nowhere/redis.sock", retry_interval_s=0.0)
    async with opened(cache), asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        early = group.create_task(cache.get_or_fill(CacheScope.LIST, "key", LONG_S, slow_fill))
        await read_old.wait()
        truth.version += 1
        late = [group.create_task(cache.get_or_fill(CacheScope.LIST, "key", LONG_S, slow_fill)) for _ in range(100)]
        await asyncio.sleep(0)
        go_on.set()
    assert early.result() == b"version 0"
    assert {each.result() for each in late} == {b"version 1"}
    assert truth.asked <= 3  # some may have come after the second began


GARBAGE = {
    "closes": b"",
    "noise": b"\x00\xffnoise\r\n",
    "one answer to all": b"+OK\r\n",
    "many answers": b":1\r\n" * 100,
    "cut short": b"$5\r\nab",
    "impossible length": b"*-7\r\n",
    "no number": b"$abc\r\n",
    "nested": b"*1\r\n" * 5000,
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("answer", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_never_an_error_nor_an_answer(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while answer and await reader.read(4096):
                writer.write(answer)
        writer.close()

    with scratch_dir() as directory:
        listener = await asyncio.start_unix_server(talk, directory / "s")
        async with listener, opened(cache_at(f"unix://{directory}/s", retry_interval_s=0.0)) as cache:
            truth = Truth()
            for _ in range(5):
                await truth.write(cache)
                assert await truth.read(cache) == truth.now


# Databases that share a Redis.


async def messages(client: httpx.AsyncClient) -> list[str]:
    response = await client.get("/api/events?event_type=test")
    return [each["message"] for each in response.json()] if response.status_code == 200 else []


async def is_cached(client: httpx.AsyncClient) -> bool:
    await messages(client)
    return 'result="hit",scope="events"' in (await client.get("/metrics")).text


@pytest.mark.parametrize("is_copy", [False, True], ids=["another database", "a copy"])
async def test_collectors_of_two_databases_on_one_redis_see_only_their_own_events(
    settings: Settings, serve: Serve, engines: SuiteEngines, *, is_copy: bool
) -> None:
    async with serve(settings) as client:
        await create(client, message="before")  # a copy has all that this collector has stored by then
    ((name,),) = await sql(settings.dsn, "SELECT current_database()")
    with new_database(engines, template=name if is_copy else "migrated") as dsn:
        async with serve(settings) as one, serve(settings, database_url=dsn) as other:
            found = await create(one, message="of one")
            path = f"/api/events/{found['id']}"
            assert (await one.get(path)).status_code == 200
            await eventually(partial(is_cached, one))
            assert await messages(one) == ["of one", "before"]
            assert await messages(other) == (["before"] if is_copy else [])
            assert (await other.get(path)).status_code == 404
            await create(other, message="of other")
            assert await messages(one) == ["of one", "before"]


@pytest.mark.parametrize("redis_url", [None, "none"], ids=["redis", "memory"])
async def test_nothing_is_served_of_a_database_that_was_dropped_and_created_again(
    settings: Settings, serve: Serve, engines: SuiteEngines, redis_url: str | None
) -> None:
    """Both are copies of one template, on one server: neither the epoch nor a secret tells them apart."""
    name = f"again_{os.getpid()}"
    with new_database(engines, template="migrated", name=name) as dsn:
        shared = {"database_url": dsn, "redis_url": redis_url or settings.redis_url, "list_ttl_s": 3600.0}
        async with serve(settings, **shared) as client:
            await create(client, message="of the first")
            await eventually(partial(is_cached, client))
            await sql(engines.maintenance_url, f"DROP DATABASE {name} WITH (FORCE)")
            await sql(engines.maintenance_url, f"CREATE DATABASE {name} TEMPLATE migrated")

            async def is_empty() -> bool:
                response = await client.get("/api/events?event_type=test")
                return response.status_code == 200 and response.json() == []

            await eventually(is_empty)
