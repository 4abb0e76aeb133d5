"""Idempotency keys: stored once by two collectors, over restarts and hung transactions; later forgotten and refused."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx
import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from brain_collector.api.idempotency import CLOCK_MARGIN, refuse_too_old
from brain_collector.errors import BatchTooOld
from brain_collector.ingest.decode import decode_ndjson
from brain_collector.ingest.duplicates import KeyUse, fingerprint_of
from brain_collector.ingest.limits import Limits
from brain_collector.ingest.submission import Stored, Submission
from brain_collector.ingest.writer import Writer
from brain_collector.metrics import Metrics
from brain_collector.settings import Settings
from brain_events._delivery.transport import Response
from brain_events._delivery.verdict import Outcome, judge
from brain_events.wire import KEY_HEADER, new_key
from tests.conftest import Serve
from tests.support.collector import connected, count_foreign, event, ndjson, outcome, post_batch, sql, started
from tests.support.proxy import Fate, Proxy, proxied
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

GOOD = ndjson(event(message="0"), event(message="1"), event(message="2"))
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ALMOST = timedelta(minutes=5)


def key_of(moment: datetime) -> UUID:
    """Return a UUIDv7 made at a moment."""
    ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    return UUID(int=ms << 80 | 0x7 << 76 | uuid4().int & 0xFFF << 64 | 0x2 << 62 | uuid4().int & (1 << 62) - 1)


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


# -- keys that are too old


async def test_a_key_older_than_its_life_less_a_day_is_refused_and_one_younger_is_taken(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    old = await post_batch(collector, GOOD, key=key_of(days_ago(13) - ALMOST))
    young = await post_batch(collector, GOOD, key=key_of(days_ago(13) + ALMOST))

    assert outcome(old) == (422, "batch_too_old")
    assert "more than 13 days ago" in old.json()["detail"]
    assert (young.status_code, young.json()["accepted"]) == (200, 3)
    assert await count_foreign(settings.dsn) == 3


async def test_a_single_event_under_a_key_that_is_too_old_is_refused(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    headers = {KEY_HEADER: str(key_of(days_ago(14)))}
    answer = await collector.post("/api/events", json=event(), headers=headers)

    assert outcome(answer) == (422, "batch_too_old")
    assert await count_foreign(settings.dsn) == 0


async def test_the_sdk_sets_a_batch_that_is_too_old_aside(collector: httpx.AsyncClient) -> None:
    answer = await post_batch(collector, GOOD, key=key_of(days_ago(14)))
    judged = judge(Response(answer.status_code, answer.headers["content-type"], answer.content), 3)

    assert (judged.outcome, judged.rejected) == (Outcome.REJECTED, 3)
    assert "batch_too_old" in judged.reason


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(uuid4(), id="version 4"),
        pytest.param(uuid5(UUID(int=0), "a name"), id="version 5"),
        pytest.param(UUID("d9428888-122b-11e1-b85c-61cd3cbb3210"), id="version 1, of 2011"),
        pytest.param(UUID(int=0), id="of no version"),
        pytest.param(key_of(datetime.now(UTC) + timedelta(days=2)), id="version 7, of the day after tomorrow"),
        pytest.param(key_of(datetime(9999, 1, 1, tzinfo=UTC)), id="version 7, of the year 9999"),
        pytest.param(UUID(int=(1 << 48) - 1 << 80 | 0x7 << 76 | 0x2 << 62), id="version 7, beyond the calendar"),
    ],
)
async def test_a_key_that_carries_no_time_or_one_of_the_future_is_taken_and_remembered(
    collector: httpx.AsyncClient, settings: Settings, key: UUID
) -> None:
    first, again = [await post_batch(collector, GOOD, key=key) for _ in range(2)]

    assert (first.status_code, first.json()["duplicate"]) == (200, False)
    assert again.json() == {**first.json(), "duplicate": True}
    assert await count_foreign(settings.dsn) == 3


async def test_a_key_of_the_year_1970_is_too_old(collector: httpx.AsyncClient) -> None:
    answer = await post_batch(collector, GOOD, key=key_of(datetime(1970, 1, 1, tzinfo=UTC)))

    assert outcome(answer) == (422, "batch_too_old")
    assert "1970-01-01T00:00:00+00:00" in answer.json()["detail"]
    assert "the clock of the sending machine is behind" in answer.json()["detail"]


@given(
    made=st.timedeltas(timedelta(days=-40), CLOCK_MARGIN),
    life_days=st.integers(6, 30),
    later=st.timedeltas(timedelta(0), timedelta(days=400)),
)
def test_a_key_that_was_taken_is_refused_by_the_time_it_is_forgotten(
    made: timedelta, life_days: int, later: timedelta
) -> None:
    key = key_of(NOW + made)
    assume(is_taken(key, NOW, life_days))

    assert not is_taken(key, NOW + timedelta(days=life_days, milliseconds=1) + later, life_days)


@given(age=st.timedeltas(-timedelta(days=400), timedelta(days=5)), life_days=st.integers(6, 30))
def test_no_key_that_the_sdk_keeps_on_disk_is_too_old(age: timedelta, life_days: int) -> None:
    assert is_taken(key_of(NOW - age), NOW, life_days)


def is_taken(key: UUID, now: datetime, life_days: int) -> bool:
    try:
        refuse_too_old(key, now, life_days)
    except BatchTooOld:
        return False
    return True


# -- keys that are forgotten


async def test_a_key_is_forgotten_after_its_life_and_is_then_too_old(settings: Settings, serve: Serve) -> None:
    made = days_ago(5.5)
    old, young = key_of(made), key_of(days_ago(4.5))
    async with serve(settings) as client:
        for key in (old, young):
            assert (await post_batch(client, GOOD, key=key)).json()["accepted"] == 3
    for key, received_at in ((old, days_ago(6) - ALMOST), (young, days_ago(6) + ALMOST)):
        await sql(settings.dsn, "UPDATE batches SET received_at = $2 WHERE key = $1", key, received_at)

    async def is_forgotten() -> bool:
        keys = await sql(settings.dsn, "SELECT key FROM batches WHERE key = ANY($1::uuid[])", [old, young])
        return keys == [(young,)]

    async with serve(settings, idempotency_key_life_days=6, maintain_interval_s=0.05) as client:
        await eventually(is_forgotten, "only the old key is forgotten")
        answers = [await post_batch(client, GOOD, key=key) for key in (old, young)]

    assert outcome(answers[0]) == (422, "batch_too_old")
    assert answers[1].json()["duplicate"] is True
    assert await count_foreign(settings.dsn) == 6


async def test_more_keys_than_are_forgotten_at_once_are_all_forgotten_while_it_runs(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, maintain_interval_s=0.05) as client:
        await started(settings.dsn)
        aged = (
            "INSERT INTO batches (key, digest, first_id, n, min_ts, max_ts, received_at) "
            "SELECT gen_random_uuid(), 0, 0, 1, now(), now(), now() - make_interval(days => $1, mins => 5) "
            "FROM generate_series(1, 10050)"
        )
        key = new_key()
        await post_batch(client, GOOD, key=key)
        await sql(settings.dsn, aged, settings.idempotency_key_life_days)

        async def forgotten() -> bool:
            old = "SELECT FROM batches WHERE received_at < now() - make_interval(days => $1)"
            return await sql(settings.dsn, old, settings.idempotency_key_life_days) == []

        await eventually(forgotten, "the old keys are forgotten")
        assert (await post_batch(client, GOOD, key=key)).json()["duplicate"] is True


# -- two collectors on one database


@pytest.mark.parametrize("n", [3, 300])  # small groups go by one statement, larger ones by COPY
async def test_one_key_at_two_collectors_at_once_is_stored_once_and_both_are_told_alike(
    settings: Settings, serve: Serve, n: int
) -> None:
    body = ndjson(event(severity="odd"), *(event(message=str(line)) for line in range(n)))
    async with serve(settings) as one, serve(settings) as other:
        for _ in range(10):
            key = new_key()
            answers = await asyncio.gather(*(post_batch(client, body, key=key) for client in (one, other)))
            assert [answer.status_code for answer in answers] == [200, 200]
            told = [answer.json() for answer in answers]
            assert sorted(each.pop("duplicate") for each in told) == [False, True]
            assert told[0] == told[1]
            assert told[0]["errors"][0]["code"] == "severity_unknown"

    assert await count_foreign(settings.dsn) == 10 * n


class IdleWatcher:
    def database_up(self, began_s: float) -> None: ...

    def database_down(self, reason: str, began_s: float) -> None: ...


def used(key: UUID) -> KeyUse:
    return KeyUse(key, "a caller", fingerprint_of(b"a body", "lines"))


async def write_in_order(settings: Settings, keys: list[UUID], rows: int) -> list[Stored]:
    """Write one batch a key, in groups as large as may be, with a writer of its own."""

    async def nothing() -> None: ...

    decoded = decode_ndjson(ndjson(*[event()] * rows), Limits(10_000, 8), datetime.now(UTC)).rows
    writer = Writer(msgspec.structs.replace(settings, writers=1), IdleWatcher(), nothing, Metrics())
    sent = [
        asyncio.create_task(writer.submit(Submission(decoded, lambda _rejected: b"{}", key_use=used(key))))
        for key in keys
    ]
    await asyncio.sleep(0)  # all are in the queue now
    writer.close()
    await writer.run()
    return [await each for each in sent]


@pytest.mark.parametrize("rows", [1, 100])  # by one statement, by COPY
async def test_the_same_keys_in_opposite_order_at_two_collectors_do_not_deadlock(settings: Settings, rows: int) -> None:
    patient = msgspec.structs.replace(settings, lock_deadline_s=60.0, write_deadline_s=60.0)
    keys = sorted(new_key() for _ in range(5))
    async with connected(settings.dsn) as third:
        holding = third.transaction()
        await holding.start()
        await third.execute("INSERT INTO batches VALUES ($1, 0, NULL, 0, 1, now(), now())", keys[2])
        both = [asyncio.create_task(write_in_order(patient, order, rows)) for order in (keys, keys[::-1])]
        await eventually(lambda: wait_for_locks(settings.dsn, 2), "each holds some of the keys, or none, and waits")
        await holding.rollback()
        one, other = [await each for each in both]

    assert [stored.first_id for stored in one] == [stored.first_id for stored in other[::-1]]
    assert sorted([one[0].is_duplicate, other[0].is_duplicate]) == [False, True]
    assert await count_foreign(settings.dsn) == 5 * rows
    await eventually(lambda: have_left(settings.dsn), "what the server counted is written down")
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await sql(settings.dsn, deadlocks) == [(0,)]


async def wait_for_locks(dsn: str, n: int) -> bool:
    waiting = (
        "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE '%INTO batches%'"
    )
    return len(await sql(dsn, waiting)) == n


async def have_left(dsn: str) -> bool:
    there = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'brain-events'"
    return await sql(dsn, there) == []


@pytest.fixture
def proxy(database_url: str) -> Iterator[Proxy]:
    """A proxy to the test's database."""
    with proxied(database_url) as found:
        yield found


Ending = Callable[[Proxy], None]


@pytest.mark.parametrize("ending", [Proxy.restore, Proxy.cut], ids=["it continues", "it is lost"])
async def test_a_key_held_by_a_hung_collector_is_unavailable_elsewhere_until_it_is_free(
    settings: Settings, serve: Serve, proxy: Proxy, ending: Ending
) -> None:
    key, body = new_key(), ndjson(*(event(message=str(n)) for n in range(300)))

    def hang_in_the_transaction(chunk: bytes) -> Fate:
        if b"COPY" in chunk:
            proxy.freeze()  # this still arrives; nothing after it does, nor any answer
        return Fate.PASS

    async with (
        serve(settings, database_url=proxy.url) as hung,
        serve(settings, lock_deadline_s=0.2) as other,
    ):
        await started(settings.dsn, collectors=2)
        proxy.rule = hang_in_the_transaction
        first = asyncio.create_task(post_batch(hung, body, key=key))
        await eventually(lambda: key_is_held(settings.dsn), "the hung collector holds the key")
        refused = await post_batch(other, body, key=key)
        assert outcome(refused) == (503, "unavailable")
        assert refused.headers["retry-after"] == "1"
        assert "another request with the same Idempotency-Key" in refused.json()["detail"]
        ending(proxy)
        proxy.restore()
        answers = [await first, await settled(other, body, key), await settled(hung, body, key)]

    told = [answer.json() for answer in answers if answer.status_code == 200]
    assert (told[-1]["accepted"], told[-1]["duplicate"]) == (300, True)
    assert [each["duplicate"] for each in told[:-1]] == [False, True][: len(told) - 1]
    if ending is Proxy.restore:
        assert len(told) == 3
    else:  # the first may be told that the database went away
        assert {answer.status_code for answer in answers[1:]} == {200}
        assert answers[0].status_code in {200, 503}
    assert await count_foreign(settings.dsn) == 300


async def settled(client: httpx.AsyncClient, body: bytes, key: UUID) -> httpx.Response:
    """Send a batch until it is not refused for now; a lock may still be held for a moment."""
    while (answer := await post_batch(client, body, key=key)).status_code == 503:
        await asyncio.sleep(0.1)
    return answer


async def key_is_held(dsn: str) -> bool:
    """Tell whether a transaction that wrote a key is open, and nothing of it is under way."""
    open_now = await sql(
        dsn,
        "SELECT FROM pg_stat_activity JOIN pg_locks USING (pid) WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND relation = 'batches'::regclass AND mode = 'RowExclusiveLock' "
        "AND query LIKE 'COPY%'",
    )
    return len(open_now) == 1


async def test_a_collector_that_started_again_tells_the_same(settings: Settings, serve: Serve) -> None:
    key, body = new_key(), GOOD + ndjson(event(severity="odd"), event(message=None), event(event_type="t" * 99))
    content, headers = msgspec.json.encode(event(message="single")), single_headers()
    told: list[list[dict[str, Any]]] = []
    for _ in range(2):
        async with serve(settings, max_line_errors=2) as client:
            answers = [
                await post_batch(client, body, key=key),
                await client.post("/api/events", content=content, headers=headers),
            ]
            told.append([answer.json() for answer in answers])

    assert told[1] == [{**told[0][0], "duplicate": True}, told[0][1]]
    assert (told[0][0]["rejected"], len(told[0][0]["errors"])) == (3, 2)
    assert await count_foreign(settings.dsn) == 4


def single_headers() -> dict[str, str]:
    return {"Content-Type": "application/json", KEY_HEADER: str(new_key())}


async def test_a_key_is_not_taken_for_another_body_at_another_collector(settings: Settings, serve: Serve) -> None:
    key = new_key()
    async with serve(settings) as one, serve(settings) as other:
        await post_batch(one, GOOD, key=key)
        answer = await post_batch(other, GOOD + b"\n", key=key)

    assert outcome(answer) == (422, "idempotency_key_reused")
    assert await count_foreign(settings.dsn) == 3
