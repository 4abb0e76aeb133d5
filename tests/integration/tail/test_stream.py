"""The live tail: everything that is committed comes, once, in order of arrival, also across reconnects."""

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import httpx
import msgspec
import pytest

from brain_collector.settings import Settings
from tests.conftest import Serve
from tests.support.collector import connected, event, ndjson, post_batch, sql
from tests.support.proxy import proxied
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

STREAM = "/api/events/stream"


class Message(NamedTuple):
    name: str
    id: str
    data: Any


class Listening:
    """An open stream: what has come so far, read in the background."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self.messages: list[Message] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        fields: dict[str, str] = {}
        async for line in self.response.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                data = fields.get("data", "").removeprefix("data:")
                self.messages.append(Message(fields["event"], fields["id"], json.loads(data) if data else None))
                fields = {}

    @property
    def events(self) -> list[dict[str, Any]]:
        return [each for message in self.messages if message.name == "events" for each in message.data]

    @property
    def numbers(self) -> list[int]:
        return [each["details"]["number"] for each in self.events]

    @property
    def last_id(self) -> str:
        return self.messages[-1].id

    async def until(self, n: int) -> None:
        async def enough() -> bool:
            return len(self.events) >= n

        await eventually(enough, f"{n} events have come")

    async def until_ready(self) -> None:
        async def ready() -> bool:
            return bool(self.messages)

        await eventually(ready, "the stream has begun")


@asynccontextmanager
async def listening(client: httpx.AsyncClient, query: str = "?source=s", after: str = "") -> AsyncIterator[Listening]:
    headers = {"Last-Event-ID": after} if after else {}
    async with client.stream("GET", STREAM + query, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        found = Listening(response)
        try:
            if not after:
                await found.until_ready()
            yield found
        finally:
            found.reading.cancel()


def numbered(*numbers: int, **fields: Any) -> bytes:
    return ndjson(*(event(source="s", details={"number": number}, **fields) for number in numbers))


async def test_what_is_stored_comes_as_it_is_listed(collector: httpx.AsyncClient) -> None:
    async with listening(collector) as tail:
        assert tail.response.headers["content-type"].startswith("text/event-stream")
        assert [message.name for message in tail.messages] == ["ready"]
        await post_batch(collector, numbered(1, 2))
        await collector.post("/api/events", json=event(source="s", details={"number": 3}))
        await tail.until(3)
        assert tail.numbers == [1, 2, 3]
        listed = (await collector.get("/api/events?source=s")).json()
        assert sorted(tail.events, key=lambda each: each["id"]) == sorted(listed, key=lambda each: each["id"])


async def test_what_was_stored_before_does_not_come(collector: httpx.AsyncClient) -> None:
    await post_batch(collector, numbered(1))
    async with listening(collector) as tail:
        await post_batch(collector, numbered(2))
        await tail.until(1)
    assert tail.numbers == [2]


async def test_each_gets_what_its_filter_wants(collector: httpx.AsyncClient) -> None:
    filters = ["?source=s&severity_min=error", "?event_type=a&event_type=b", "?details.number=3", "?source=nobody"]
    lines = [
        event(source="s", event_type=kind, severity=severity, details={"number": number})
        for number, (kind, severity) in enumerate([("a", "info"), ("b", "error"), ("c", "critical"), ("c", "info")])
    ]
    async with (
        listening(collector, filters[0]) as urgent,
        listening(collector, filters[1]) as kinds,
        listening(collector, filters[2]) as third,
        listening(collector, filters[3]) as none,
        listening(collector) as everything,
    ):
        await post_batch(collector, ndjson(*lines))
        await everything.until(4)
        for tail, n in ((urgent, 2), (kinds, 2), (third, 1)):
            await tail.until(n)
        await post_batch(collector, numbered(9, severity="critical"))
        await urgent.until(3)
    assert (urgent.numbers, kinds.numbers, third.numbers, none.numbers) == ([1, 2, 9], [0, 1], [3], [])


async def test_a_stream_goes_on_where_the_one_before_ended_also_on_another_collector(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client, serve(settings) as other:
        async with listening(client) as tail:
            await post_batch(client, numbered(1, 2, 3))
            await tail.until(3)
            last = tail.last_id
        await post_batch(other, numbered(4, 5))
        async with listening(other, after=last) as again:
            await again.until(2)
            await post_batch(client, numbered(6))
            await again.until(3)
        assert again.numbers == [4, 5, 6]


async def test_a_batch_that_is_larger_than_a_message_is_cut_and_gone_on_with(
    collector: httpx.AsyncClient,
) -> None:
    async with listening(collector) as tail:
        ready = tail.last_id
        await post_batch(collector, numbered(*range(5_000)))
        await tail.until(5_000)
        messages = [message for message in tail.messages if message.name == "events"]
    assert len(messages) > 1
    assert tail.numbers == list(range(5_000))
    for cut in messages[:-1]:
        n_before = cut.data[-1]["details"]["number"] + 1
        async with listening(collector, after=cut.id) as rest:
            await rest.until(5_000 - n_before)
        assert rest.numbers == list(range(n_before, 5_000))
    async with listening(collector, after=ready) as everything:
        await everything.until(5_000)
    assert everything.numbers == list(range(5_000))


async def test_transactions_that_commit_late_are_neither_missed_nor_doubled(settings: Settings, serve: Serve) -> None:
    """Eight writers hold their transactions open for random times; a listener comes and goes meanwhile."""
    rounds, writers = 12, 8
    async with serve(settings, stream_poll_s=0.02) as client:
        got: list[int] = []
        async with listening(client) as tail:
            last = tail.last_id

        async def write(writer: int) -> None:
            async with connected(settings.dsn) as connection:
                for n in range(rounds):
                    await slow_batch(connection, writer * rounds + n)

        writing = asyncio.gather(*(write(writer) for writer in range(writers)))
        while not writing.done() or len(got) < rounds * writers:
            async with listening(client, after=last) as tail:
                await asyncio.sleep(random.uniform(0, 0.3))
            got += tail.numbers
            if tail.messages:
                last = tail.last_id
            assert len(got) <= rounds * writers
        await writing
    assert sorted(got) == list(range(rounds * writers))


async def slow_batch(connection: asyncpg.Connection, number: int) -> None:
    """Write as a collector does, and commit after a while."""
    async with connection.transaction():
        first_id = await connection.fetchval("SELECT nextval('system_events_id_seq')")
        await connection.execute(
            "INSERT INTO batches (key, digest, first_id, n, min_ts, max_ts) "
            "VALUES (gen_random_uuid(), 0, $1, 1, now(), now())",
            first_id,
        )
        await connection.execute(
            'INSERT INTO system_events (id, event_type, severity, message, details, source, "timestamp") '
            "VALUES ($1, 't', 'info', 'm', $2, 's', now())",
            first_id,
            json.dumps({"number": number}),
        )
        await asyncio.sleep(random.uniform(0, 0.2))


async def test_who_is_far_behind_is_told_of_a_gap_and_what_to_list(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_stream_lag=10) as client:
        async with listening(client) as tail:
            last = tail.last_id
        await post_batch(client, numbered(*range(50)))
        async with listening(client, after=last) as late:

            async def told() -> bool:
                return any(message.name == "gap" for message in late.messages)

            await eventually(told, "the gap is told")
            (gap,) = [message.data for message in late.messages if message.name == "gap"]
            assert gap["arrived"] >= 50  # own events of the collector are among them
            listed = await client.get(
                "/api/events", params={"source": "s", "from": gap["since"], "to": gap["until"], "limit": 1000}
            )
            assert len(listed.json()) == 50
            assert late.events == []


async def test_the_number_of_streams_is_a_setting(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_streams=1) as client:
        async with listening(client):
            refused = await client.get(STREAM)
            assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
            assert "BRAIN_COLLECTOR_MAX_STREAMS" in refused.json()["detail"]

        async def free() -> bool:
            async with client.stream("GET", STREAM) as response:
                return response.status_code == 200

        await eventually(free, "there is room again")


@pytest.mark.parametrize("token", ["x", "1", "1-", "-1-2", "1-2-3-4", f"{2**63}-1", f"1-1-{2**63}", "\u0661-\u0661"])
async def test_a_last_id_that_is_none_is_refused(collector: httpx.AsyncClient, token: str) -> None:
    refused = await collector.get(STREAM, headers=[(b"Last-Event-ID", token.encode())])
    assert (refused.status_code, refused.json()["code"]) == (422, "parameter_invalid")


async def test_a_parameter_that_a_stream_has_not_is_refused(collector: httpx.AsyncClient) -> None:
    for query in ("?from=2026-01-01T00:00:00Z", "?limit=1", "?severity=bad"):
        assert (await collector.get(STREAM + query)).status_code == 422


async def test_head_ends(collector: httpx.AsyncClient) -> None:
    answer = await collector.head(STREAM)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_silence_is_broken_by_a_heartbeat_that_can_be_gone_on_from(settings: Settings, serve: Serve) -> None:
    async with serve(settings, stream_heartbeat_s=0.3) as client:
        await post_batch(client, numbered(1))
        async with listening(client, "?source=nobody") as tail:
            await post_batch(client, numbered(2))  # it wants it not, and is past it when the heartbeat comes

            async def past_it() -> bool:
                beats = [message.id for message in tail.messages if message.name == "heartbeat"]
                return bool(beats) and place(beats[-1]) > place(tail.messages[0].id)

            await eventually(past_it, "a heartbeat has come")
            assert tail.events == []
            last = tail.last_id
        await post_batch(client, numbered(3))
        async with listening(client, after=last) as again:
            await again.until(1)
        assert again.numbers == [3]


def place(token: str) -> tuple[int, ...]:
    return tuple(map(int, token.split("-")))


async def test_a_client_that_does_not_read_costs_a_bounded_number_of_bytes_and_is_told_when_it_reads(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, max_stream_bytes=200_000) as client:
        reading, sending = await asyncio.open_connection(client.base_url.host, client.base_url.port, limit=2**10)
        sending.write(b"GET /api/events/stream?source=s HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reading.readuntil(b"event: ready")
        async with listening(client) as other:
            for start in range(0, 20_000, 500):
                await post_batch(client, numbered(*range(start, start + 500), message="x" * 1_000))
            await other.until(20_000)  # one who reads gets everything
        received = b""
        while b"event: gap" not in received:
            received += await asyncio.wait_for(reading.read(2**20), PATIENCE_S)
        sending.transport.abort()


async def test_a_stream_outlives_its_database(settings: Settings, serve: Serve) -> None:
    with proxied(settings.dsn) as proxy:
        away = msgspec.structs.replace(settings, database_url=proxy.url)
        async with serve(away, connect_deadline_s=2.0, read_deadline_s=2.0) as client, listening(client) as tail:
            await post_batch(client, numbered(1))
            await tail.until(1)
            proxy.freeze()
            assert (await client.get("/api/events?source=s&limit=7")).status_code == 503
            proxy.restore()

            async def taken() -> bool:
                return (await post_batch(client, numbered(2))).status_code == 200

            await eventually(taken, "the database is back")

            async def came() -> bool:
                return 2 in tail.numbers

            await eventually(came, "the stream continues")
        assert tail.numbers[:2] == [1, 2]


REFUSING = (
    "CREATE SCHEMA refusing",
    """CREATE FUNCTION refusing.text_at(jsonb, text[]) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
    IF $2 = '{refused}' THEN RAISE EXCEPTION 'refused'; END IF;
    IF $2 = '{slow}' THEN PERFORM pg_sleep(60); END IF;
    IF $2 = '{held}' THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF;
    RETURN jsonb_extract_path_text($1, VARIADIC $2); END $$""",
    "CREATE OPERATOR refusing.#>> (LEFTARG = jsonb, RIGHTARG = text[], FUNCTION = refusing.text_at)",
    """DO $$ BEGIN EXECUTE
    format('ALTER DATABASE %I SET search_path = refusing, pg_catalog, public', current_database()); END $$""",
)
"""SQL: from the next connection on, Postgres refuses a filter on `details.refused`, and is slow with `details.slow`.

A filter on `details.held` takes as long as a test holds it.
"""


@pytest.mark.parametrize("path", ["refused", "slow"])
async def test_a_filter_that_postgres_refuses_ends_its_own_streams_alone(
    settings: Settings, serve: Serve, path: str
) -> None:
    for statement in REFUSING:
        await sql(settings.dsn, statement)
    async with (
        serve(settings, read_deadline_s=2.0) as client,
        listening(client, f"?source=s&details.{path}=1") as one,
        listening(client, f"?source=s&details.{path}=1") as same,
        listening(client, "?source=s&details.number=1") as other,
        listening(client) as everything,
    ):
        await post_batch(client, numbered(1))
        for tail in (one, same):
            await asyncio.wait_for(tail.reading, PATIENCE_S)
            assert tail.events == []
        await everything.until(1)
        await post_batch(client, numbered(1))
        await everything.until(2)
        await other.until(2)
        assert not other.reading.done()
        assert not everything.reading.done()


@asynccontextmanager
async def held(dsn: str) -> AsyncIterator[None]:
    """Let no filter on `details.held` come to an end during the block."""
    async with connected(dsn) as connection:
        await connection.execute("SELECT pg_advisory_lock(4711)")
        yield


@asynccontextmanager
async def two_callers(settings: Settings, serve: Serve, **changes: Any) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Serve, and yield a client of each of two API keys."""
    for statement in REFUSING:
        await sql(settings.dsn, statement)
    deadlines = {"read_deadline_s": 30.0, "lock_deadline_s": 60.0}
    async with serve(settings, **(deadlines | changes)) as client, AsyncExitStack() as stack:
        clients = []
        for name in ("one", "other"):
            body = {"name": name, "scopes": ["admin", "ingest", "read"]}
            created = await client.post("/api/keys", json=body)
            client.headers["Authorization"] = f"Bearer {created.json()['key']}"
            caller = httpx.AsyncClient(base_url=client.base_url, headers=client.headers, timeout=PATIENCE_S)
            clients.append(await stack.enter_async_context(caller))
        yield clients


@asynccontextmanager
async def many_listening(client: httpx.AsyncClient, after: str = "") -> AsyncIterator[list[Listening]]:
    """More streams than the collector has database connections for reads, each with a filter that can be held."""
    queries = [f"?source=s&details.number=1&details.held={n}" for n in range(12)]
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(listening(client, query, after)) for query in queries]


async def test_filters_that_take_long_delay_the_streams_of_their_caller_only(settings: Settings, serve: Serve) -> None:
    async with (
        two_callers(settings, serve) as (one, other),
        listening(other) as prompt,
        many_listening(one) as late,
    ):
        async with held(settings.dsn):
            for number in range(1, 6):
                await post_batch(other, numbered(number))
                await prompt.until(number)
            assert not any(tail.reading.done() for tail in late)
            assert (await other.get("/api/events?source=s")).status_code == 200
        await post_batch(other, ndjson(event(source="s", details={"number": 1, "held": 3})))
        await late[3].until(1)
        await prompt.until(6)
    assert prompt.numbers == [1, 2, 3, 4, 5, 1]
    assert [len(tail.events) for tail in late] == [int(n == 3) for n in range(12)]
    assert {message.name for tail in late for message in tail.messages} == {"ready", "events"}


async def test_streams_that_all_resume_at_an_old_position_delay_the_streams_of_their_caller_only(
    settings: Settings, serve: Serve
) -> None:
    async with two_callers(settings, serve) as (one, other), listening(other) as prompt:
        await post_batch(other, ndjson(event(source="s", details={"number": 1, "held": 3})))
        await prompt.until(1)
        async with many_listening(one, after=prompt.messages[0].id) as late:
            async with held(settings.dsn):
                for tail in late:
                    await tail.until_ready()
                for number in range(2, 6):
                    await post_batch(other, numbered(number))
                    await prompt.until(number)
                assert (await other.get("/api/events?source=s")).status_code == 200
                assert not any(tail.reading.done() for tail in late)
            await late[3].until(1)
    assert prompt.numbers == [1, 2, 3, 4, 5]


async def test_a_filter_that_cannot_be_read_in_time_gets_a_gap_over_everything_that_it_missed(
    settings: Settings, serve: Serve
) -> None:
    async with (
        two_callers(settings, serve, max_stream_lag=20) as (one, other),
        listening(other) as prompt,
        listening(one, "?source=s&details.held=3") as late,
    ):
        async with held(settings.dsn):
            for number in range(60):
                await post_batch(other, ndjson(event(source="s", details={"number": number, "held": 3})))
                await prompt.until(number + 1)
            assert late.events == []
        await post_batch(other, ndjson(event(source="s", details={"number": 60, "held": 3})))

        async def has_arrived() -> bool:
            return 60 in late.numbers

        await eventually(has_arrived, "the stream continues")
        await prompt.until(61)
        assert prompt.numbers == list(range(61))
        gaps = [message.data for message in late.messages if message.name == "gap"]
        told: set[int] = set()
        for gap in gaps:
            parameters = {"source": "s", "from": gap["since"], "to": gap["until"], "limit": 1000}
            listed = (await other.get("/api/events", params=parameters)).json()
            told |= {each["details"]["number"] for each in listed}
        assert late.numbers == sorted(set(late.numbers))
        assert told | set(late.numbers) == set(range(61))
        assert sum(gap["arrived"] for gap in gaps) + len(late.numbers) >= 61


async def test_streams_of_several_callers_with_the_same_filters_get_each_event_once_in_order(
    settings: Settings, serve: Serve
) -> None:
    async with two_callers(settings, serve) as clients, AsyncExitStack() as stack:
        queries = ("?source=s", "?source=s&q=m", "?source=s&severity_min=info")
        tails = [
            await stack.enter_async_context(listening(client, query)) for query in queries for client in clients * 2
        ]
        await asyncio.gather(*(post_batch(clients[0], numbered(*range(n, n + 50))) for n in range(0, 2_000, 50)))
        for tail in tails:
            await tail.until(2_000)
        ids = [[each["id"] for each in tail.events] for tail in tails]
    assert sorted(tails[0].numbers) == list(range(2_000))
    assert all(each == ids[0] for each in ids)


async def test_who_is_behind_with_events_that_take_long_to_look_at_gets_them_by_coming_again(
    settings: Settings, serve: Serve
) -> None:
    await sql(settings.dsn, "ALTER FUNCTION event_words RENAME TO words_of")
    await sql(settings.dsn, SLOW_WORDS)
    async with serve(settings, read_deadline_s=1.0) as client:
        async with listening(client) as before:
            place = before.last_id
        await post_batch(client, numbered(*range(90)))
        found: list[int] = []
        while len(found) < 90:
            async with listening(client, "?source=s&q=-nowhere", after=place) as tail:
                enough = asyncio.create_task(tail.until(90 - len(found)))
                await asyncio.wait([tail.reading, enough], return_when=asyncio.FIRST_COMPLETED)
                enough.cancel()
                found += tail.numbers
                place = tail.last_id
        assert found == list(range(90))


SLOW_WORDS = """
    CREATE FUNCTION event_words(event_type text, message text, source text, details jsonb) RETURNS tsvector
    LANGUAGE plpgsql COST 1000
    AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN words_of(event_type, message, source, details); END $$
"""
