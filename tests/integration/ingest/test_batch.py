"""Batches over HTTP: each valid event is stored once and each invalid one listed, for any body and any retries."""

import asyncio
import codecs
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from brain_collector.api.batch import NDJSON_TYPES
from brain_collector.ingest.decode import decode_ndjson
from brain_collector.ingest.duplicates import KeyUse, fingerprint_of
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.submission import Submission
from brain_collector.ingest.writer import Writer
from brain_collector.metrics import Metrics
from brain_collector.settings import Settings
from brain_events.wire import BATCH_PATH, KEY_HEADER, NDJSON
from tests.conftest import Serve
from tests.support.collector import (
    FOREIGN,
    connected,
    count_foreign,
    event,
    ndjson,
    outcome,
    own_events,
    post_batch,
    sql,
    started,
)
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

JSON = "application/json"
GOOD = ndjson(event(message="0"), event(message="1"), event(message="2"))
STORED = f"SELECT message FROM system_events WHERE {FOREIGN} ORDER BY id"


def all_taken(n: int, *, duplicate: bool = False, adjusted: int = 0) -> dict[str, Any]:
    return {
        "received": n,
        "accepted": n,
        "rejected": 0,
        "duplicate": duplicate,
        "errors": [],
        "errors_truncated": False,
        "adjusted": adjusted,
    }


# -- what is taken


async def test_every_line_of_ndjson_is_stored(collector: httpx.AsyncClient, settings: Settings) -> None:
    answer = await post_batch(collector, GOOD)

    assert (answer.status_code, answer.json()) == (200, all_taken(3))
    assert await sql(settings.dsn, STORED) == [("0",), ("1",), ("2",)]


async def test_every_element_of_an_array_is_stored(collector: httpx.AsyncClient, settings: Settings) -> None:
    events = [event(message=str(n), details={"n": n}) for n in range(3)]
    answer = await post_batch(collector, msgspec.json.encode(events), content_type=JSON)

    assert (answer.status_code, answer.json()) == (200, all_taken(3))
    assert await sql(settings.dsn, STORED) == [("0",), ("1",), ("2",)]


async def test_blank_lines_carriage_returns_and_a_missing_last_newline_do_no_harm(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    lines = GOOD.split(b"\n")
    answer = await post_batch(collector, b"\n" + lines[0] + b"\r\n \n" + lines[1] + b"\n\n\n" + lines[2])

    assert answer.json() == all_taken(3)
    assert await sql(settings.dsn, STORED) == [("0",), ("1",), ("2",)]


async def test_a_gzip_body_is_inflated(collector: httpx.AsyncClient, settings: Settings) -> None:
    answer = await post_batch(collector, gzip.compress(GOOD), content_encoding="gzip")

    assert answer.json() == all_taken(3)
    assert await count_foreign(settings.dsn) == 3


async def test_a_large_batch_goes_in_whole(collector: httpx.AsyncClient, settings: Settings) -> None:
    body = ndjson(*(event(message="x" * 400, event_type=f"t{n % 7}") for n in range(9_999)), event(message="last"))
    answer = await post_batch(collector, body)

    assert answer.json() == all_taken(10_000)
    assert await count_foreign(settings.dsn) == 10_000


async def test_ids_are_unique_and_in_the_order_of_the_lines(collector: httpx.AsyncClient, settings: Settings) -> None:
    bodies = [ndjson(*(event(message=f"{batch}/{line}") for line in range(150))) for batch in range(8)]
    await asyncio.gather(*(post_batch(collector, body) for body in bodies))

    rows = await sql(settings.dsn, f"SELECT id, message FROM system_events WHERE {FOREIGN} ORDER BY id")
    assert len({number for number, _ in rows}) == 8 * 150
    for batch in range(8):
        mine = [message for _, message in rows if message.startswith(f"{batch}/")]
        assert mine == [f"{batch}/{line}" for line in range(150)]


@pytest.mark.parametrize("n", [3, 500])
async def test_created_at_is_one_moment_for_a_batch(collector: httpx.AsyncClient, settings: Settings, n: int) -> None:
    await post_batch(collector, ndjson(*(event(message=str(line)) for line in range(n))))

    rows = await sql(
        settings.dsn, f"SELECT created_at, count(*) FROM system_events WHERE {FOREIGN} GROUP BY created_at"
    )
    assert [count for _, count in rows] == [n]
    assert await sql(settings.dsn, "SELECT received_at FROM batches WHERE n = $1", n) == [(rows[0][0],)]


# -- what is not


async def test_bad_lines_are_named_by_place_and_the_good_are_stored(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    lines = [
        ndjson(event(message="0")),
        b"no json\n",
        ndjson(event(event_type="t" * 71)),
        ndjson(event(message="3")),
        ndjson(event(severity="odd")),
        b"[]\n",
        b'{"event_type":"t","severity":"info","message":"\xff"}\n',
    ]
    answer = await post_batch(collector, b"".join(lines))

    assert answer.status_code == 200
    found = answer.json()
    assert (found["received"], found["accepted"], found["rejected"], found["errors_truncated"]) == (7, 3, 4, False)
    assert [(error["index"], error["code"]) for error in found["errors"]] == [
        (1, "not_json"),
        (2, "field_too_long"),
        (4, "severity_unknown"),
        (5, "not_an_object"),
    ]
    assert found["errors"][1]["detail"] == "event_type has 71 characters, the maximum is 50"
    assert await sql(settings.dsn, STORED) == [("0",), ("3",), ("\ufffd",)]


async def test_bad_elements_of_an_array_are_named_alike(collector: httpx.AsyncClient, settings: Settings) -> None:
    body = msgspec.json.encode([event(message="0"), 7, event(message=None), event(message="3")])
    answer = await post_batch(collector, body, content_type=JSON)

    assert [(error["index"], error["code"]) for error in answer.json()["errors"]] == [
        (1, "not_an_object"),
        (2, "field_type"),
    ]
    assert await sql(settings.dsn, STORED) == [("0",), ("3",)]


async def test_two_events_on_one_line_are_one_bad_line_whatever_stands_on_the_others(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    two = ndjson(event(message="a")).strip() + b" " + ndjson(event(message="b"))
    for n, others in enumerate((ndjson(event(message="good")), ndjson(event(message="good")) + b"bad\n")):
        answer = await post_batch(collector, two + others)

        found = answer.json()
        assert (found["received"], found["accepted"]) == (2 + n, 1)
        assert found["errors"][0]["index"] == 0
    assert await sql(settings.dsn, STORED) == [("good",), ("good",)]


async def test_an_event_spread_over_two_lines_is_two_bad_lines(collector: httpx.AsyncClient) -> None:
    spread = ndjson(event(message="a")).replace(b",", b",\n", 1)
    answer = await post_batch(collector, spread + ndjson(event(message="good")))

    found = answer.json()
    assert (found["received"], found["accepted"]) == (3, 1)
    assert [error["index"] for error in found["errors"]] == [0, 1]


async def test_only_so_many_errors_are_named_but_all_are_counted(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_line_errors=2) as client:
        answer = await post_batch(client, ndjson(event(), *[event(severity="odd")] * 5))

    found = answer.json()
    assert (found["rejected"], [error["index"] for error in found["errors"]]) == (5, [1, 2])
    assert found["errors_truncated"] is True


async def test_a_batch_without_a_valid_event_is_refused_whole(collector: httpx.AsyncClient, settings: Settings) -> None:
    answer = await post_batch(collector, ndjson(event(severity="odd"), event(message=None)) + b"{")

    assert outcome(answer) == (422, "batch_invalid")
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [
        ("/0/severity", "severity_unknown"),
        ("/1/message", "field_type"),
        ("/2", "not_json"),
    ]
    assert await count_foreign(settings.dsn) == 0


async def test_an_empty_batch_is_refused_and_counts_as_no_refused_event(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    for body, given in ((b"", "application/x-ndjson"), (b"\n \r\n", "application/x-ndjson"), (b"[]", JSON)):
        answer = await post_batch(collector, body, content_type=given)

        assert outcome(answer) == (422, "batch_invalid")
        assert "empty" in answer.json()["detail"]
    await post_batch(collector, b"{}")
    await eventually(lambda: _noted(settings), "refused input is noted")
    assert await own_events(settings.dsn, "input_rejected") == [{"count": 1}]


async def _noted(settings: Settings) -> bool:
    return await own_events(settings.dsn, "input_rejected") != []


async def test_a_body_that_is_no_array_is_undecodable(collector: httpx.AsyncClient) -> None:
    for body in (b"[1", b"[" * 5_000, b"[[]]]", b"[1 2]", b"[1,]", b'["]', b"[] []", b" [,1]"):
        answer = await post_batch(collector, body, content_type=JSON)

        assert outcome(answer) == (400, "body_undecodable"), body[:20]


async def test_a_gzip_body_that_is_not_exactly_one_gzip_member_is_undecodable(collector: httpx.AsyncClient) -> None:
    whole = gzip.compress(GOOD)
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
    for body in (b"", GOOD, whole[:-1], whole[:12], whole + b"x", whole + whole, flipped, b"\x1f\x8b" + b"\0" * 50):
        answer = await post_batch(collector, body, content_encoding="gzip")

        assert outcome(answer) == (400, "body_undecodable"), body[:20]


async def test_an_encoding_other_than_gzip_is_refused(collector: httpx.AsyncClient) -> None:
    for encoding in ("deflate", "br", "zstd", "gzip, gzip"):
        answer = await post_batch(collector, GOOD, content_encoding=encoding)

        assert outcome(answer) == (415, "unsupported_media_type"), encoding


async def test_a_content_type_other_than_ndjson_and_json_is_refused(collector: httpx.AsyncClient) -> None:
    for given in ("text/plain", "application/json-patch+json", ""):
        answer = await post_batch(collector, GOOD, content_type=given)

        assert outcome(answer) == (415, "unsupported_media_type"), given


async def test_ndjson_is_taken_under_every_name_that_senders_give_it(collector: httpx.AsyncClient) -> None:
    for given in (*NDJSON_TYPES, "application/json", "application/json; charset=utf-8"):
        answer = await post_batch(collector, GOOD, content_type=given)

        assert answer.json() == all_taken(3), given


async def test_an_event_on_several_lines_is_one_event_as_json_and_is_known_again(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    key, body = uuid4(), msgspec.json.format(ndjson(event(message="good", details={"a": [1, {"b": 2}]})), indent=2)
    answers = [await post_batch(collector, body, key=key, content_type=JSON) for _ in range(2)]
    twice = await post_batch(collector, ndjson(event(), event()), content_type=JSON)
    as_lines = await post_batch(collector, body)

    assert body.count(b"\n") > 5
    assert answers[0].json() == all_taken(1)
    assert answers[1].json() == all_taken(1, duplicate=True)
    assert twice.json() == all_taken(2)
    assert outcome(as_lines) == (422, "batch_invalid")
    assert await count_foreign(settings.dsn) == 3


async def test_a_byte_order_mark_is_skipped(collector: httpx.AsyncClient) -> None:
    for content_type, body, n in ((NDJSON, GOOD, 3), (JSON, b"[" + ndjson(event()) + b"]", 1)):
        plain = await post_batch(collector, codecs.BOM_UTF8 + body, content_type=content_type)
        zipped = await post_batch(
            collector, gzip.compress(codecs.BOM_UTF8 + body), content_type=content_type, content_encoding="gzip"
        )

        assert plain.json() == zipped.json() == all_taken(n)
    single = await collector.post(
        "/api/events", content=codecs.BOM_UTF8 + ndjson(event()), headers={"Content-Type": JSON}
    )
    assert single.status_code == 201


async def test_an_element_that_is_not_an_event_affects_no_other(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    good = ndjson(event(message="good")).strip()
    large = ndjson(event(message="m" * 300_000)).strip()
    answer = await post_batch(collector, b"[%b, NaN, {'a':1}, %b , %b]" % (good, large, good), content_type=JSON)

    assert [(error["index"], error["code"]) for error in answer.json()["errors"]] == [
        (1, "not_an_object"),
        (2, "not_json"),
        (3, "event_too_large"),
    ]
    assert await sql(settings.dsn, STORED) == [("good",), ("good",)]


async def test_a_bomb_is_not_inflated_beyond_the_limit(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_inflated_bytes=1_000_000) as client:
        fits = await post_batch(
            client, gzip.compress(b" " * (1_000_000 - len(GOOD) - 1) + b"\n" + GOOD), content_encoding="gzip"
        )
        bomb = await post_batch(client, gzip.compress(b"\n" * 50_000_000), content_encoding="gzip")

    assert fits.json() == all_taken(3)
    assert outcome(bomb) == (413, "body_too_large")


async def in_chunks(body: bytes) -> Any:
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


async def test_a_body_over_the_limit_is_refused_whether_or_not_its_length_is_declared(
    settings: Settings, serve: Serve
) -> None:
    headers = {"Content-Type": "application/x-ndjson"}
    async with serve(settings, max_body_bytes=2_000) as client:
        fits = await post_batch(client, GOOD + b"\n" * (2_000 - len(GOOD)))
        declared = await post_batch(client, GOOD + b"\n" * (2_001 - len(GOOD)))
        chunked = await client.post(BATCH_PATH, content=in_chunks(b"\n" * 2_001), headers=headers)

    assert fits.json() == all_taken(3)
    assert outcome(declared) == outcome(chunked) == (413, "body_too_large")


async def test_a_batch_of_too_many_events_is_refused(settings: Settings, serve: Serve) -> None:
    async with serve(settings, max_batch_events=3) as client:
        fits = await post_batch(client, GOOD)
        over = await post_batch(client, GOOD + ndjson(event()))

    assert fits.json() == all_taken(3)
    assert outcome(over) == (413, "body_too_large")
    assert await count_foreign(settings.dsn) == 3


async def partly_sent(client: httpx.AsyncClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Begin a batch of which only the first bytes are sent."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    head = f"POST {BATCH_PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    writer.write(f"{head}Content-Length: {len(GOOD)}\r\n\r\n".encode() + GOOD[:-10])
    await writer.drain()
    return reader, writer


async def test_a_body_that_does_not_arrive_in_time_is_given_up(settings: Settings, serve: Serve) -> None:
    async with serve(settings, body_deadline_s=0.1) as client:
        reader, writer = await partly_sent(client)
        answer = await reader.readuntil(b"}")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow"' in answer
    assert await count_foreign(settings.dsn) == 0


async def test_a_client_that_goes_away_in_the_middle_leaves_nothing(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    _, writer = await partly_sent(collector)
    writer.close()
    await writer.wait_closed()

    assert (await post_batch(collector, GOOD)).json() == all_taken(3)
    assert await count_foreign(settings.dsn) == 3


# -- what must wait


@asynccontextmanager
async def locked_table(dsn: str) -> AsyncIterator[Callable[[], Awaitable[bool]]]:
    """Hold up every write; yields a question: does one wait?"""
    async with connected(dsn) as connection, connected(dsn) as observer:

        async def somebody_waits() -> bool:
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            return bool(await observer.fetchval(waiting) > 0)

        async with connection.transaction():
            await connection.execute("LOCK TABLE system_events IN ACCESS EXCLUSIVE MODE")
            yield somebody_waits


async def test_what_is_not_committed_in_time_is_refused_for_now_and_stored_once_when_it_comes_again(
    settings: Settings, serve: Serve
) -> None:
    key = uuid4()
    async with serve(settings, write_deadline_s=2.0, lock_deadline_s=60.0) as client:
        await started(settings.dsn)
        async with locked_table(settings.dsn):
            refused = await post_batch(client, GOOD, key=key)
        assert outcome(refused) == (503, "unavailable")
        assert refused.headers["retry-after"] == "1"

        async def taken() -> bool:
            return (await post_batch(client, GOOD, key=key)).status_code == 200

        await eventually(taken, "the batch is taken")

    assert await count_foreign(settings.dsn) == 3


async def test_what_is_too_much_waits_its_turn(settings: Settings, serve: Serve) -> None:
    bounds = {"max_pending_bytes": len(GOOD) + 10, "lock_deadline_s": 60.0, "admission_wait_s": PATIENCE_S}
    async with serve(settings, **bounds) as client:

        async def second_waits() -> bool:
            return "brain_collector_waiting_requests 1.0" in (await client.get("/metrics")).text

        await started(settings.dsn)
        async with locked_table(settings.dsn) as somebody_waits:
            first = asyncio.create_task(post_batch(client, GOOD))
            await eventually(somebody_waits, "the first batch is being written")
            second = asyncio.create_task(post_batch(client, GOOD))
            await eventually(second_waits, "the second waits")
        assert [(await each).json() for each in (first, second)] == [all_taken(3)] * 2


async def test_who_does_not_heed_a_refusal_is_refused_no_faster(settings: Settings, serve: Serve) -> None:
    bounds = {"max_pending_bytes": 1, "max_waiting_requests": 0, "lock_deadline_s": 60.0, "admission_wait_s": 0.2}
    async with serve(settings, **bounds) as client:
        now = asyncio.get_running_loop().time
        await started(settings.dsn)
        async with locked_table(settings.dsn) as somebody_waits:
            first = asyncio.create_task(post_batch(client, GOOD))
            await eventually(somebody_waits, "the first batch is being written")
            begun_s = now()
            refused = [await post_batch(client, GOOD * 20_000) for _ in range(3)]  # more than the sockets hold
            took_s = now() - begun_s
        assert {outcome(each) for each in refused} == {(503, "unavailable")}
        assert "requests in progress hold" in refused[0].json()["detail"]
        assert took_s > 3 * 0.2 - 0.05
        assert (await first).json() == all_taken(3)
        assert (await post_batch(client, GOOD)).json() == all_taken(3)


# -- what comes again


@pytest.mark.parametrize("bad", [b"", b"no json\n"])
async def test_a_batch_that_comes_again_is_stored_once_and_told_the_same(
    collector: httpx.AsyncClient, settings: Settings, bad: bytes
) -> None:
    key, body = uuid4(), bad + GOOD
    first = await post_batch(collector, body, key=key)
    again = [await post_batch(collector, body, key=key) for _ in range(2)]
    again.append(await post_batch(collector, gzip.compress(body), key=key, content_encoding="gzip"))

    assert (first.status_code, first.json()["duplicate"]) == (200, False)
    for answer in again:
        assert (answer.status_code, answer.json()) == (200, {**first.json(), "duplicate": True})
    assert await count_foreign(settings.dsn) == 3


async def test_batches_without_a_key_are_not_the_same(collector: httpx.AsyncClient, settings: Settings) -> None:
    answers = [await post_batch(collector, GOOD) for _ in range(2)]

    assert [answer.json() for answer in answers] == [all_taken(3), all_taken(3)]
    assert await count_foreign(settings.dsn) == 6


async def test_of_many_at_once_under_one_key_exactly_one_commits(settings: Settings, serve: Serve) -> None:
    key = uuid4()
    async with serve(settings) as one, serve(settings) as other:
        answers = await asyncio.gather(*(post_batch(client, GOOD, key=key) for client in (one, other) * 10))

    told = [answer.json()["duplicate"] for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(told) == [False] + [True] * 19
    assert await count_foreign(settings.dsn) == 3
    assert await sql(settings.dsn, "SELECT n FROM batches WHERE key = $1", key) == [(3,)]


async def test_a_key_is_not_taken_for_another_body(collector: httpx.AsyncClient, settings: Settings) -> None:
    key = uuid4()
    await post_batch(collector, GOOD, key=key)
    other = await post_batch(collector, GOOD.replace(b'"2"', b'"3"'), key=key)
    longer = await post_batch(collector, GOOD + ndjson(event()), key=key)

    assert outcome(other) == outcome(longer) == (422, "idempotency_key_reused")
    assert await count_foreign(settings.dsn) == 3


@pytest.mark.parametrize("single_first", [False, True])
async def test_a_key_used_on_one_endpoint_is_not_taken_on_the_other(
    collector: httpx.AsyncClient, settings: Settings, *, single_first: bool
) -> None:
    key, body = uuid4(), msgspec.json.encode(event())

    async def single() -> httpx.Response:
        headers = {"Content-Type": JSON, KEY_HEADER: str(key)}
        return await collector.post("/api/events", content=body, headers=headers)

    async def batch() -> httpx.Response:
        return await post_batch(collector, body, key=key)

    first, second = (single, batch) if single_first else (batch, single)
    assert (await first()).is_success
    assert outcome(await second()) == (422, "idempotency_key_reused")
    assert await count_foreign(settings.dsn) == 1


async def test_a_malformed_key_is_refused(collector: httpx.AsyncClient) -> None:
    assert outcome(await post_batch(collector, GOOD, key="7")) == (400, "idempotency_key_malformed")


async def test_a_batch_refused_whole_leaves_its_key_free(collector: httpx.AsyncClient) -> None:
    key = uuid4()
    refused = await post_batch(collector, b"no json", key=key)
    taken = await post_batch(collector, GOOD, key=key)

    assert outcome(refused) == (422, "batch_invalid")
    assert taken.json() == all_taken(3)


async def test_a_key_is_forgotten_after_its_life_and_not_before(settings: Settings, serve: Serve) -> None:
    old, young = uuid4(), uuid4()
    async with serve(settings, idempotency_key_life_days=6) as client:
        for key in (old, young):
            await post_batch(client, GOOD, key=key)
    aged = "UPDATE batches SET received_at = now() - make_interval(days => $2, hours => 1) WHERE key = $1"
    await sql(settings.dsn, aged, old, 6)
    await sql(settings.dsn, aged, young, 5)

    async def is_forgotten() -> bool:
        return await sql(settings.dsn, "SELECT key FROM batches WHERE key = ANY($1::uuid[])", [old, young]) == [
            (young,)
        ]

    async with serve(settings, idempotency_key_life_days=6, maintain_interval_s=0.05) as client:
        await eventually(is_forgotten, "only the old key is forgotten")
        answers = [await post_batch(client, GOOD, key=key) for key in (old, young)]

    assert [answer.json()["duplicate"] for answer in answers] == [False, True]


async def test_every_writer_ends_when_told_to_also_with_a_repeated_key_in_hand(settings: Settings) -> None:
    async def nothing() -> None: ...

    def submission(key: UUID) -> Submission:
        rows = decode_ndjson(GOOD, Limits(10_000, 8), datetime.now(UTC)).rows
        return Submission(
            rows, lambda _rejected: b"{}", key_use=KeyUse(key, "a caller", fingerprint_of(b"a body", "lines"))
        )

    key = uuid4()
    writer = Writer(msgspec.structs.replace(settings, writers=2), IdleWatcher(), nothing, Metrics())
    sent = [asyncio.create_task(writer.submit(submission(key))) for _ in range(2)]
    await asyncio.sleep(0)  # both are in the queue now
    writer.close()
    async with asyncio.timeout(PATIENCE_S):
        await writer.run()
        await writer.run()

    assert [(await each).is_duplicate for each in sent] == [False, True]


class IdleWatcher:
    def database_up(self, began_s: float) -> None: ...

    def database_down(self, reason: str, began_s: float) -> None: ...


# -- what only Postgres refuses

UNSTORABLE = ndjson(event(message="bad"))


@pytest.fixture
async def picky(settings: Settings) -> Settings:
    """Let Postgres refuse what it would take: nothing else is known that gets so far."""
    await sql(
        settings.dsn,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE data_exception USING MESSAGE = 'it is bad'; END$$",
    )
    await sql(
        settings.dsn,
        "CREATE TRIGGER refuse BEFORE INSERT ON system_events FOR EACH ROW WHEN (NEW.message = 'bad') "
        "EXECUTE FUNCTION refuse()",
    )
    return settings


@pytest.mark.parametrize("n", [5, 300])  # small groups go by INSERT, larger ones by COPY
async def test_rows_that_only_postgres_refuses_cost_only_themselves(
    collector: httpx.AsyncClient, picky: Settings, n: int
) -> None:
    key, lines = uuid4(), [ndjson(event(message=str(line))) for line in range(n)]
    lines[1] = lines[n - 2] = UNSTORABLE
    first, again = [await post_batch(collector, b"".join(lines), key=key) for _ in range(2)]

    assert first.status_code == 200, first.text
    found = first.json()
    assert (found["received"], found["accepted"], found["rejected"]) == (n, n - 2, 2)
    assert [(error["index"], error["code"]) for error in found["errors"]] == [
        (1, "not_storable"),
        (n - 2, "not_storable"),
    ]
    assert again.json() == {**found, "duplicate": True}
    expected = [(str(line),) for line in range(n) if line not in {1, n - 2}]
    assert await sql(picky.dsn, STORED) == expected


async def test_places_are_right_where_bad_lines_and_unstorable_rows_mix(
    collector: httpx.AsyncClient, picky: Settings
) -> None:
    body = b"no json\n" + ndjson(event()) + UNSTORABLE + b"{}\n" + UNSTORABLE + ndjson(event())
    found = (await post_batch(collector, body)).json()

    assert [(error["index"], error["code"]) for error in found["errors"]] == [
        (0, "not_json"),
        (2, "not_storable"),
        (3, "field_missing"),
        (4, "not_storable"),
    ]
    assert found["accepted"] == 2


async def test_a_batch_of_which_postgres_takes_nothing_is_refused_whole(
    collector: httpx.AsyncClient, picky: Settings
) -> None:
    answer = await post_batch(collector, UNSTORABLE * 3)

    assert outcome(answer) == (422, "batch_invalid")
    assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [
        (f"/{line}", "not_storable") for line in range(3)
    ]
    assert await count_foreign(picky.dsn) == 0


async def test_other_batches_do_not_suffer_for_a_row_that_postgres_refuses(picky: Settings, serve: Serve) -> None:
    async with serve(picky, writers=1) as client:  # one writer, so that they meet in one group
        poisoned = [post_batch(client, UNSTORABLE + GOOD) for _ in range(3)]
        innocent = [post_batch(client, GOOD) for _ in range(10)]
        singles = [client.post("/api/events", json=event()) for _ in range(10)]
        answers = await asyncio.gather(*poisoned, *innocent, *singles)

    assert [answer.json()["accepted"] for answer in answers[:3]] == [3] * 3
    assert [answer.json() for answer in answers[3:13]] == [all_taken(3)] * 10
    assert [answer.status_code for answer in answers[13:]] == [201] * 10
    assert await count_foreign(picky.dsn) == 9 + 30 + 10


# -- when it happened


async def test_a_time_far_ahead_or_before_the_calendar_becomes_the_time_of_arrival_and_is_noted(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    now = datetime.now(UTC)
    far = [now + timedelta(days=1, minutes=1), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)]
    sent = [*(moment.isoformat() for moment in far), "0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"]
    answer = await post_batch(collector, ndjson(*(event(timestamp=text, details={"a": 1}) for text in sent)))

    assert answer.json() == all_taken(4, adjusted=4)
    rows = await sql(settings.dsn, f'SELECT "timestamp", details FROM system_events WHERE {FOREIGN} ORDER BY id')
    assert all(now <= moment <= datetime.now(UTC) for moment, _ in rows)
    assert [msgspec.json.decode(details) for _, details in rows] == [
        {"a": 1, "_adjusted_timestamp": text} for text in sent
    ]


async def test_the_past_and_the_near_future_are_kept(collector: httpx.AsyncClient, settings: Settings) -> None:
    now = datetime.now(UTC)
    moments = [now + timedelta(hours=23), now - timedelta(days=400), datetime(1970, 1, 1, tzinfo=UTC)]
    moments.append(datetime(1, 1, 3, tzinfo=UTC))
    await post_batch(collector, ndjson(*(event(timestamp=moment.isoformat()) for moment in moments)))

    rows = await sql(settings.dsn, f'SELECT "timestamp", details FROM system_events WHERE {FOREIGN} ORDER BY id')
    assert rows == [(moment, None) for moment in moments]


async def test_a_time_without_an_offset_is_utc(collector: httpx.AsyncClient, settings: Settings) -> None:
    body = ndjson(*(event(timestamp=f"2026-01-02T03:04:05{offset}") for offset in ("", "Z", "+01:00")))
    await post_batch(collector, body)

    rows = await sql(settings.dsn, f'SELECT "timestamp" FROM system_events WHERE {FOREIGN} ORDER BY id')
    assert [moment for (moment,) in rows] == [datetime(2026, 1, 2, hour, 4, 5, tzinfo=UTC) for hour in (3, 3, 2)]


async def test_events_without_a_time_get_the_time_of_arrival(collector: httpx.AsyncClient, settings: Settings) -> None:
    before = datetime.now(UTC)
    await post_batch(collector, GOOD)

    rows = await sql(settings.dsn, f'SELECT DISTINCT "timestamp" FROM system_events WHERE {FOREIGN}')
    assert len(rows) == 1
    assert before <= rows[0][0] <= datetime.now(UTC)


# -- what is noted


async def test_refused_input_becomes_an_event_of_the_collector(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        await post_batch(client, GOOD + b"no json\n{}\n")
        await post_batch(client, b"no json\n")

    assert await own_events(settings.dsn, "input_rejected") == [{"count": 2}]  # the second waits for the interval
