"""Idempotency keys that several callers use: nobody can occupy those of others, or get anything by them."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from brain_collector.settings import Settings
from brain_events.wire import KEY_HEADER, new_key
from tests.conftest import Serve
from tests.integration.access.test_keys import BOOTSTRAP, KEY, bearer, made
from tests.support.collector import count_foreign, event, ndjson, outcome, post_batch, sql

pytestmark = pytest.mark.anyio

GOOD = ndjson(*(event(message=f"line {n}") for n in range(3)))
WITH_ERRORS = GOOD + ndjson(event(severity="s3cret"))
OTHER = ndjson(event(message="of another"))
BITS = 64


class Callers:
    """A collector, and the headers of three API keys: two that may only store, and one that may do anything."""

    def __init__(self, client: httpx.AsyncClient, one: dict[str, str], two: dict[str, str]) -> None:
        self.client, self.one, self.two = client, one, two

    async def batch(self, caller: dict[str, str], body: bytes, key: UUID) -> httpx.Response:
        return await post_batch(self.client, body, key=key, **caller)

    async def single(self, caller: dict[str, str], content: bytes, key: UUID) -> httpx.Response:
        headers = {**caller, "Content-Type": "application/json", KEY_HEADER: str(key)}
        return await self.client.post("/api/events", content=content, headers=headers)


@pytest.fixture
async def callers(settings: Settings, serve: Serve) -> AsyncIterator[Callers]:
    async with serve(settings, api_key=KEY) as client:
        one, two = [bearer((await made(client, "ingest"))["key"]) for _ in range(2)]
        yield Callers(client, one, two)


def with_bits(bits: int) -> bytes:
    return ndjson(event(message=f"{bits:0{BITS}b}"))


def forged(body: bytes) -> bytes:
    """Return another body like `with_bits` with the same length and CRC-32."""
    empty = zlib.crc32(with_bits(0))
    basis: list[tuple[int, int]] = []  # a change of the checksum, and the bits that make it
    for n in range(BITS):
        change, bits = zlib.crc32(with_bits(1 << n)) ^ empty, 1 << n
        for known, its_bits in basis:
            if change ^ known < change:
                change, bits = change ^ known, bits ^ its_bits
        if change == 0:
            return with_bits(int(msgspec.json.decode(body)["message"], 2) ^ bits)
        basis.append((change, bits))
        basis.sort(reverse=True)
    raise AssertionError


async def test_a_body_with_a_forged_checksum_under_a_known_key_does_not_pass_for_the_real_one(
    callers: Callers, settings: Settings
) -> None:
    key, real = new_key(), with_bits(5)
    fake = forged(real)
    assert (len(fake), zlib.crc32(fake)) == (len(real), zlib.crc32(real))

    answers = [
        await callers.batch(callers.one, fake, key),
        await callers.batch(callers.two, real, key),
        await callers.batch(callers.one, real, key),
    ]

    assert [answer.json()["duplicate"] for answer in answers] == [False, False, True]
    stored = {(await sql(settings.dsn, "SELECT message FROM system_events WHERE source IS NULL"))[n] for n in range(2)}
    assert stored == {(msgspec.json.decode(body)["message"],) for body in (fake, real)}


async def test_the_same_body_under_the_same_key_is_stored_once_whoever_sends_it(
    callers: Callers, settings: Settings
) -> None:
    key = new_key()
    first = await callers.batch(callers.one, WITH_ERRORS, key)
    again = [await callers.batch(caller, WITH_ERRORS, key) for caller in (callers.one, callers.two, BOOTSTRAP)]

    assert [answer.json() for answer in again] == [{**first.json(), "duplicate": True}] * 3
    assert (first.json()["accepted"], first.json()["rejected"]) == (3, 1)
    assert await count_foreign(settings.dsn) == 3


async def test_a_key_is_refused_for_another_body_to_the_caller_that_used_it_and_to_nobody_else(
    callers: Callers, settings: Settings
) -> None:
    key = new_key()
    assert (await callers.batch(callers.one, GOOD, key)).json()["duplicate"] is False

    assert outcome(await callers.batch(callers.one, OTHER, key)) == (422, "idempotency_key_reused")
    told = [(await callers.batch(callers.two, OTHER, key)).json() for _ in range(2)]
    assert told == [{**told[0], "duplicate": False}, {**told[0], "duplicate": True}]
    assert outcome(await callers.batch(callers.two, OTHER + OTHER, key)) == (422, "idempotency_key_reused")
    again = await callers.batch(callers.one, GOOD, key)
    assert (again.json()["duplicate"], again.json()["accepted"]) == (True, 3)
    assert await count_foreign(settings.dsn) == 4
    metrics = (await callers.client.get("/metrics", headers=BOOTSTRAP)).text
    assert "\nbrain_collector_idempotency_keys_taken_total 2" in metrics  # stored once, refused once


async def test_a_taken_key_does_not_keep_a_batch_from_being_stored_once_under_a_rotated_api_key(
    callers: Callers, settings: Settings
) -> None:
    key = new_key()
    await callers.batch(callers.one, OTHER, key)

    answers = [await callers.batch(caller, GOOD, key) for caller in (callers.two, BOOTSTRAP, callers.one)]

    assert [answer.json()["duplicate"] for answer in answers] == [False, True, True]
    assert await count_foreign(settings.dsn) == 4


async def test_after_the_first_user_of_a_key_is_forgotten_the_batch_of_another_is_still_known(
    callers: Callers, settings: Settings
) -> None:
    key = new_key()
    await callers.batch(callers.one, OTHER, key)
    await callers.batch(callers.two, GOOD, key)
    await sql(settings.dsn, "DELETE FROM batches WHERE key = $1", key)

    answers = [await callers.batch(caller, GOOD, key) for caller in (callers.two, BOOTSTRAP)]

    assert [answer.json()["duplicate"] for answer in answers] == [True, True]
    assert await count_foreign(settings.dsn) == 4


@pytest.mark.parametrize("n", [3, 300])  # small groups go by one statement, larger ones by COPY
async def test_callers_that_use_one_key_at_once_at_two_collectors_are_all_stored_once(
    settings: Settings, serve: Serve, n: int
) -> None:
    bodies = [ndjson(*(event(message=f"{of} {line}") for line in range(n))) for of in ("one", "two")]
    async with serve(settings, api_key=KEY) as client, serve(settings, api_key=KEY) as other:
        headers = [bearer((await made(client, "ingest"))["key"]) for _ in bodies]
        for known in headers:
            while (await post_batch(other, OTHER, **known)).status_code == 401:
                await asyncio.sleep(0.05)
        before = await count_foreign(settings.dsn)
        for _ in range(5):
            key = new_key()
            sent = [(at, body, caller) for at in (client, other) for body, caller in zip(bodies, headers, strict=True)]
            answers = await asyncio.gather(*(post_batch(at, body, key=key, **caller) for at, body, caller in sent))
            assert [answer.status_code for answer in answers] == [200] * 4
            assert sorted(answer.json()["duplicate"] for answer in answers) == [False, False, True, True]

    assert await count_foreign(settings.dsn) - before == 5 * 2 * n


async def test_a_single_event_and_a_batch_of_the_same_bytes_are_not_duplicates(
    callers: Callers, settings: Settings
) -> None:
    key, body = new_key(), msgspec.json.encode(event())

    assert (await callers.single(callers.one, body, key)).status_code == 201
    assert outcome(await callers.batch(callers.one, body, key)) == (422, "idempotency_key_reused")
    assert (await callers.batch(callers.two, body, key)).json()["duplicate"] is False
    assert await count_foreign(settings.dsn) == 2


async def test_an_array_and_lines_of_the_same_bytes_are_not_duplicates(callers: Callers, settings: Settings) -> None:
    key, line = new_key(), msgspec.json.encode(event())
    body = b"[\n%b,\n%b\n]" % (line, line)  # as lines, only the second is an event
    as_array = {"content_type": "application/json"}

    assert (await callers.batch(callers.one, body, key)).json()["accepted"] == 1
    assert outcome(await callers.batch(callers.one | as_array, body, key)) == (422, "idempotency_key_reused")
    answer = (await callers.batch(callers.two | as_array, body, key)).json()
    assert (answer["accepted"], answer["duplicate"]) == (2, False)
    assert await count_foreign(settings.dsn) == 3


async def test_two_idempotency_keys_in_one_request_are_malformed(callers: Callers) -> None:
    headers = [*callers.one.items(), ("Content-Type", "application/x-ndjson"), *[(KEY_HEADER, str(new_key()))] * 2]
    answer = await callers.client.post("/api/events/batch", content=GOOD, headers=headers)

    assert outcome(answer) == (400, "idempotency_key_malformed")


# -- events that are changed or deleted meanwhile


async def test_a_repeated_request_does_not_return_a_deleted_event(callers: Callers) -> None:
    key, content = new_key(), msgspec.json.encode(event(message="to be forgotten"))
    first = await callers.single(callers.one, content, key)
    assert (await callers.client.delete(first.headers["location"], headers=BOOTSTRAP)).status_code == 204

    for caller in (callers.one, callers.two, BOOTSTRAP):
        again = await callers.single(caller, content, key)
        assert outcome(again) == (410, "event_deleted")
        assert str(first.json()["id"]) in again.json()["detail"]
        assert "to be forgotten" not in again.text


async def test_no_response_with_the_content_of_an_event_is_kept(callers: Callers, settings: Settings) -> None:
    await callers.single(callers.one, msgspec.json.encode(event(message="content")), new_key())

    assert await sql(settings.dsn, "SELECT FROM batches WHERE answer LIKE '%content%'") == []


async def test_a_repeated_request_returns_a_changed_event_as_it_is_now_to_a_caller_that_may_read(
    callers: Callers,
) -> None:
    key, sent = new_key(), event(message="as sent", details={"a": 1})
    content = msgspec.json.encode(sent)
    first = (await callers.single(callers.one, content, key)).json()
    changed = {"message": "changed by another", "details": {"a": 2}}
    url = f"/api/events/{first['id']}"
    assert (await callers.client.put(url, json=changed, headers=BOOTSTRAP)).status_code == 200

    assert (await callers.single(BOOTSTRAP, content, key)).json() == first | changed
    for caller in (callers.one, callers.two):
        again = await callers.single(caller, content, key)
        assert (again.status_code, again.json()) == (201, first)  # what it sent itself, and the times


# -- releases before


async def forget_hashes(dsn: str) -> None:
    """Make every row one of the release before."""
    await sql(dsn, "UPDATE batches SET request_hash = NULL, caller = NULL")


async def test_what_the_release_before_stored_is_a_duplicate_and_another_body_is_refused(
    callers: Callers, settings: Settings
) -> None:
    keys, content = [new_key(), new_key()], msgspec.json.encode(event())
    first = [
        (await callers.batch(callers.one, WITH_ERRORS, keys[0])).json(),
        (await callers.single(callers.one, content, keys[1])).json(),
    ]
    await forget_hashes(settings.dsn)

    for caller in (callers.one, callers.two):
        again = (await callers.batch(caller, WITH_ERRORS, keys[0])).json()
        assert again == {**first[0], "duplicate": True, "errors": [], "errors_truncated": True}
        assert (await callers.single(caller, content, keys[1])).json() == first[1]
        assert outcome(await callers.batch(caller, OTHER, keys[0])) == (422, "idempotency_key_reused")
    assert await count_foreign(settings.dsn) == 4


async def test_a_forged_checksum_gets_nothing_of_what_the_release_before_stored(
    callers: Callers, settings: Settings
) -> None:
    key, real = new_key(), with_bits(5)
    first = (await callers.single(callers.one, real, key)).json()
    await forget_hashes(settings.dsn)

    fake = forged(real)
    told = (await callers.single(callers.two, fake, key)).json()
    assert told["message"] == msgspec.json.decode(fake)["message"] != first["message"]


async def test_what_this_release_stores_is_a_duplicate_for_the_release_before(
    callers: Callers, settings: Settings
) -> None:
    """That one inserts the idempotency key, and compares length and checksum if it is there."""
    key = new_key()
    await callers.batch(callers.one, GOOD, key)

    conflict = (
        "INSERT INTO batches (key, digest, answer, first_id, n, min_ts, max_ts) "
        "VALUES ($1, 0, NULL, 0, 1, now(), now()) ON CONFLICT (key) DO NOTHING RETURNING key"
    )
    assert await sql(settings.dsn, conflict, key) == []
    row: list[tuple[Any, ...]] = await sql(settings.dsn, "SELECT digest, answer FROM batches WHERE key = $1", key)
    assert row[0][0] == len(GOOD) << 32 | zlib.crc32(GOOD)
    assert msgspec.json.decode(row[0][1])["accepted"] == 3
