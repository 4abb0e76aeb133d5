"""Single events over HTTP: every case of the original suite, idempotency, the cache, text that Postgres rejects."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import httpx
import pytest

from brain_collector.settings import Settings
from brain_events.wire import KEY_HEADER, SEVERITIES
from tests.conftest import Serve
from tests.support.collector import FOREIGN, count_foreign, create, event, outcome, sql, started

pytestmark = pytest.mark.anyio

FULL = {
    "event_type": "deployment",
    "severity": "warning",
    "message": "Deployed with warnings",
    "details": {"version": "1.0.0", "environment": "production", "warnings": ["Deprecated API usage detected"]},
    "source": "ci_cd_pipeline",
    "timestamp": "2026-01-02T23:45:12.123456Z",
}


async def stats(client: httpx.AsyncClient) -> Any:
    return (await client.get("/api/events/stats")).json()


async def outcomes_of_bodies(client: httpx.AsyncClient, method: str, url: str, *bodies: bytes) -> set[tuple[int, str]]:
    headers = {"Content-Type": "application/json"}
    return {outcome(await client.request(method, url, content=body, headers=headers)) for body in bodies}


# -- create


async def test_a_minimal_event_is_created(collector: httpx.AsyncClient) -> None:
    before = datetime.now(UTC)
    answer = await collector.post("/api/events", json={"event_type": "test", "severity": "info", "message": "m"})

    assert answer.status_code == 201
    created = answer.json()
    moment = datetime.fromisoformat(created.pop("timestamp"))
    assert before <= moment <= datetime.now(UTC)
    assert datetime.fromisoformat(created.pop("created_at")).utcoffset() == timedelta(0)
    assert answer.headers["location"] == f"/api/events/{created.pop('id')}"
    assert created == {"event_type": "test", "severity": "info", "message": "m", "details": None, "source": None}


async def test_a_full_event_comes_back_as_it_was_sent(collector: httpx.AsyncClient) -> None:
    created = await create(collector, **FULL)

    assert {name: created[name] for name in FULL} == FULL
    assert set(created) - set(FULL) == {"id", "created_at"}


async def test_each_severity_is_taken(collector: httpx.AsyncClient) -> None:
    taken = [(await create(collector, severity=severity))["severity"] for severity in SEVERITIES]

    assert taken == ["info", "warning", "error", "critical"]


async def test_a_wrong_field_is_named(collector: httpx.AsyncClient) -> None:
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"event_type": None}, "/event_type", "field_type"),
        ({"event_type": ""}, "/event_type", "field_empty"),
        ({"event_type": "t" * 51}, "/event_type", "field_too_long"),
        ({"severity": "fatally"}, "/severity", "severity_unknown"),
        ({"severity": 70}, "/severity", "field_type"),
        ({"severity": True}, "/severity", "field_type"),
        ({"message": 7}, "/message", "field_type"),
        ({"source": "s" * 101}, "/source", "field_too_long"),
        ({"details": [1]}, "/details", "field_type"),
        ({"details": "text"}, "/details", "field_type"),
        ({"timestamp": "yesterday"}, "/timestamp", "timestamp_invalid"),
        ({"timestamp": 10**20}, "/timestamp", "timestamp_invalid"),
        ({"timestamp": True}, "/timestamp", "timestamp_invalid"),
        ({"timestamp": "2026-02-30T00:00:00Z"}, "/timestamp", "timestamp_invalid"),
    ]
    for changes, pointer, code in cases:
        answer = await collector.post("/api/events", json=event(**changes))

        assert outcome(answer) == (422, "event_invalid"), changes
        assert answer.headers["content-type"] == "application/problem+json"
        assert [(error["pointer"], error["code"]) for error in answer.json()["errors"]] == [(pointer, code)]


async def test_a_missing_field_is_named(collector: httpx.AsyncClient) -> None:
    for name in ("event_type", "severity", "message"):
        fields = event()
        del fields[name]
        answer = await collector.post("/api/events", json=fields)

        assert outcome(answer) == (422, "event_invalid")
        assert answer.json()["errors"] == [
            {"pointer": f"/{name}", "code": "field_missing", "detail": f"{name} is missing"}
        ]


async def test_every_field_at_fault_is_named_at_once(collector: httpx.AsyncClient) -> None:
    answer = await collector.post("/api/events", json={"severity": "odd", "details": 1, "timestamp": "?"})

    pointers = {error["pointer"] for error in answer.json()["errors"]}
    assert pointers == {"/event_type", "/severity", "/message", "/details", "/timestamp"}


async def test_the_longest_type_and_source_are_taken_in_characters_not_bytes(collector: httpx.AsyncClient) -> None:
    created = await create(collector, event_type="😀" * 50, source="ä" * 100)

    assert (created["event_type"], created["source"]) == ("😀" * 50, "ä" * 100)


async def test_a_body_that_is_no_event_is_refused(collector: httpx.AsyncClient) -> None:
    bodies = (b"", b"no json", b'{"event_type": "t"', b"[]", b'"text"', b"null", b"\xff\xfe")

    assert await outcomes_of_bodies(collector, "POST", "/api/events", *bodies) == {(422, "event_invalid")}


async def test_another_content_type_is_refused(collector: httpx.AsyncClient) -> None:
    for given in (None, "text/plain", "application/x-www-form-urlencoded", "application/x-ndjson"):
        headers = {} if given is None else {"Content-Type": given}
        answer = await collector.post("/api/events", content=b'{"event_type":"t"}', headers=headers)

        assert outcome(answer) == (415, "unsupported_media_type"), given


async def test_an_event_over_the_size_limit_is_refused(collector: httpx.AsyncClient) -> None:
    answer = await collector.post("/api/events", json=event(message="m" * 300_000))

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "event_too_large"


async def test_unknown_fields_become_details(collector: httpx.AsyncClient) -> None:
    created = await create(collector, id=7, colour="blue")

    assert created["details"] == {"id": 7, "colour": "blue"}
    assert created["id"] != 7


async def test_an_event_can_be_stored_again_as_it_was_returned(collector: httpx.AsyncClient) -> None:
    first = await create(collector, **FULL)
    second = await create(collector, **first)

    assert second["id"] != first["id"]
    assert {name: second[name] for name in FULL} == FULL


async def test_an_update_takes_what_a_new_event_may_have(collector: httpx.AsyncClient) -> None:
    created = await create(collector, timestamp="2026-01-02T03:04:05Z")
    answer = await collector.put(
        f"/api/events/{created['id']}", json={"severity": "EMERG", "timestamp": 1_767_323_045_000, "details": {"a": 1}}
    )

    assert answer.status_code == 200, answer.text
    assert answer.json()["severity"] == "critical"
    assert answer.json()["details"] == {"a": 1, "severity_given": "EMERG"}


async def test_an_update_is_held_to_the_limits_of_what_details_become(collector: httpx.AsyncClient) -> None:
    url = f"/api/events/{(await create(collector))['id']}"
    bodies = [b'{"details":{"n":[%b]}}' % b",".join([number] * n) for number, n in ((b"1e300", 2_000), (b"0", 10_000))]
    answers = [await collector.put(url, content=body, headers={"Content-Type": "application/json"}) for body in bodies]

    codes = [[error["code"] for error in answer.json()["errors"]] for answer in answers]
    assert codes == [["too_many_digits"], ["too_many_values"]]


async def test_a_timestamp_with_an_offset_is_the_same_moment_in_utc(collector: httpx.AsyncClient) -> None:
    created = await create(collector, timestamp="2026-01-02T23:45:12+02:00")
    read = (await collector.get(f"/api/events/{created['id']}")).json()

    assert datetime.fromisoformat(created["timestamp"]) == datetime(2026, 1, 2, 21, 45, 12, tzinfo=UTC)
    assert read["timestamp"] == "2026-01-02T21:45:12Z"


# -- get


async def test_an_event_is_read_by_its_id_as_it_was_created(collector: httpx.AsyncClient) -> None:
    created = await create(collector, **FULL)
    answer = await collector.get(f"/api/events/{created['id']}")

    assert (answer.status_code, answer.json()) == (200, created)


async def test_an_id_that_no_event_has_is_not_found(collector: httpx.AsyncClient) -> None:
    for number in ("999999999", "0", "-1", str(2**63 - 1), str(2**63), "9" * 400):
        assert await outcomes_of_id(collector, number) == {(404, "event_not_found")}, number


async def test_an_id_that_is_no_number_is_refused(collector: httpx.AsyncClient) -> None:
    for text in ("abc", "1.0", "1e3", "0x1", "%20", "--1", "-", "٣"):
        assert await outcomes_of_id(collector, text) == {(422, "parameter_invalid")}, text


async def outcomes_of_id(client: httpx.AsyncClient, text: str) -> set[tuple[int, str]]:
    url = f"/api/events/{text}"
    return {
        outcome(await client.get(url)),
        outcome(await client.put(url, json={"message": "x"})),
        outcome(await client.delete(url)),
    }


# -- update


async def test_every_field_but_the_timestamp_can_be_changed(collector: httpx.AsyncClient) -> None:
    created = await create(collector, **FULL)
    changes = {"event_type": "rollback", "severity": "critical", "message": "no", "details": {"a": 1}, "source": "me"}
    answer = await collector.put(f"/api/events/{created['id']}", json=changes)

    assert (answer.status_code, answer.json()) == (200, {**created, **changes})
    assert (await collector.get(f"/api/events/{created['id']}")).json() == {**created, **changes}


async def test_fields_that_are_not_sent_stay(collector: httpx.AsyncClient) -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"event_type": "x"},
        {"severity": "error"},
        {"message": ""},
        {"details": {}},
        {"source": "y"},
        {},
    )
    for change in changes:
        created = await create(collector, **FULL)
        answer = await collector.put(f"/api/events/{created['id']}", json=change)

        assert answer.json() == {**created, **change}


async def test_details_and_source_can_be_set_to_null(collector: httpx.AsyncClient, settings: Settings) -> None:
    created = await create(collector, **FULL)
    answer = await collector.put(f"/api/events/{created['id']}", json={"details": None, "source": None})

    assert answer.json() == {**created, "details": None, "source": None}
    stored = await sql(
        settings.dsn, "SELECT details IS NULL, source IS NULL FROM system_events WHERE id = $1", created["id"]
    )
    assert stored == [(True, True)]


async def test_a_wrong_change_changes_nothing(collector: httpx.AsyncClient) -> None:
    created = await create(collector, **FULL)
    url = f"/api/events/{created['id']}"
    changes: tuple[dict[str, Any], ...] = (
        {"event_type": None},
        {"event_type": ""},
        {"severity": None},
        {"severity": "odd"},
        {"message": None},
        {"details": 5},
        {"source": "s" * 101},
        {"timestamp": "soon"},
    )
    for change in changes:
        answer = await collector.put(url, json={"source": "changed", "details": {}, **change})

        assert outcome(answer) == (422, "event_invalid"), change
        assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{next(iter(change))}"]
    assert (await collector.get(url)).json() == created


async def test_a_change_that_is_no_object_is_refused(collector: httpx.AsyncClient) -> None:
    url = f"/api/events/{(await create(collector))['id']}"

    found = await outcomes_of_bodies(collector, "PUT", url, b"", b"no json", b"[1]", b"null", b"\xff")
    assert found == {(422, "event_invalid")}


async def test_a_change_of_another_content_type_is_refused(collector: httpx.AsyncClient) -> None:
    created = await create(collector)
    answer = await collector.put(f"/api/events/{created['id']}", content=b"{}", headers={"Content-Type": "text/plain"})

    assert outcome(answer) == (415, "unsupported_media_type")


async def test_a_change_of_type_and_severity_moves_the_statistics(collector: httpx.AsyncClient) -> None:
    created = await create(collector, event_type="before", severity="info")
    await create(collector, event_type="stays", severity="error")
    await collector.put(f"/api/events/{created['id']}", json={"event_type": "after", "severity": "error"})

    found = await stats(collector)
    assert "before" not in found["events_by_type"]
    assert (found["events_by_type"]["after"], found["events_by_type"]["stays"]) == (1, 1)
    assert found["events_by_severity"]["error"] == 2


async def test_the_timestamp_cannot_change(collector: httpx.AsyncClient) -> None:
    created = await create(collector, **FULL)
    url = f"/api/events/{created['id']}"
    other = await collector.put(url, json={"message": "changed", "timestamp": "2026-01-03T00:00:00Z"})
    same = await collector.put(url, json={"message": "changed", "timestamp": "2026-01-03T00:45:12.123456+01:00"})

    assert other.status_code == 422
    assert [(error["pointer"], error["code"]) for error in other.json()["errors"]] == [
        ("/timestamp", "field_immutable")
    ]
    assert (same.status_code, same.json()) == (200, {**created, "message": "changed"})


async def test_a_change_that_postgres_refuses_is_a_clear_error(collector: httpx.AsyncClient) -> None:
    created = await create(collector, **FULL)
    answer = await collector.put(
        f"/api/events/{created['id']}",
        content=b'{"details":{"n":' + b"9" * 140_000 + b"}}",
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == 422
    assert (await collector.get(f"/api/events/{created['id']}")).json() == created


# -- delete


async def test_a_deleted_event_is_gone(collector: httpx.AsyncClient, settings: Settings) -> None:
    created = await create(collector)
    kept = await create(collector)
    url = f"/api/events/{created['id']}"
    first, second = await collector.delete(url), await collector.delete(url)

    assert (first.status_code, first.content) == (204, b"")
    assert (second.status_code, second.json()["code"]) == (404, "event_not_found")
    assert (await collector.get(url)).status_code == 404
    assert await sql(settings.dsn, f"SELECT id FROM system_events WHERE {FOREIGN}") == [(kept["id"],)]


# -- Idempotency-Key


async def test_the_same_key_gets_the_same_answer_and_stores_one_row(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    headers = {KEY_HEADER: str(uuid4())}
    answers = [await collector.post("/api/events", json=event(details={"a": [1]}), headers=headers) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert answers[1].json() == answers[0].json() == answers[2].json()
    assert await count_foreign(settings.dsn) == 1


async def test_the_same_key_gets_the_event_as_it_is_now(collector: httpx.AsyncClient) -> None:
    headers = {KEY_HEADER: str(uuid4())}
    first = await collector.post("/api/events", json=event(), headers=headers)
    await collector.put(f"/api/events/{first.json()['id']}", json={"message": "changed"})
    again = await collector.post("/api/events", json=event(), headers=headers)

    assert again.json() == first.json() | {"message": "changed"}


async def test_a_key_as_a_structured_field_string_is_the_same_key(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    key = uuid4()
    for given in (str(key), f'"{key}"', str(key).upper()):
        assert (await collector.post("/api/events", json=event(), headers={KEY_HEADER: given})).status_code == 201

    assert await count_foreign(settings.dsn) == 1


async def test_a_key_is_not_taken_for_another_event(collector: httpx.AsyncClient, settings: Settings) -> None:
    headers = {KEY_HEADER: str(uuid4())}
    await collector.post("/api/events", json=event(message="one"), headers=headers)
    answer = await collector.post("/api/events", json=event(message="two"), headers=headers)

    assert outcome(answer) == (422, "idempotency_key_reused")
    assert await count_foreign(settings.dsn) == 1


async def test_a_malformed_key_is_refused(collector: httpx.AsyncClient) -> None:
    for key in ("", "7", "not-a-uuid", "12345678-1234-1234-1234-12345678901g"):
        answer = await collector.post("/api/events", json=event(), headers={KEY_HEADER: key})

        assert outcome(answer) == (400, "idempotency_key_malformed"), key


async def test_a_refused_event_leaves_its_key_free(collector: httpx.AsyncClient) -> None:
    headers = {KEY_HEADER: str(uuid4())}
    refused = await collector.post("/api/events", json=event(severity="odd"), headers=headers)
    taken = await collector.post("/api/events", json=event(), headers=headers)

    assert (refused.status_code, taken.status_code) == (422, 201)


# -- cache


async def test_a_cached_event_is_served_until_the_collector_itself_changes_it(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    created = await create(collector, message="as created")
    url = f"/api/events/{created['id']}"
    assert (await collector.get(url)).json()["message"] == "as created"
    await sql(settings.dsn, "UPDATE system_events SET message = 'changed by SQL' WHERE id = $1", created["id"])

    assert (await collector.get(url)).json()["message"] == "as created"
    await create(collector)  # another event does not touch the cache of single ones
    assert (await collector.get(url)).json()["message"] == "as created"
    await collector.put(url, json={"source": "s"})
    assert (await collector.get(url)).json()["message"] == "changed by SQL"


async def test_a_cached_list_and_cached_statistics_are_served_until_a_write(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    await started(settings.dsn)
    await create(collector, event_type="cached", message="as created")
    url = "/api/events?event_type=cached"
    await collector.get(url)
    before = await stats(collector)
    await sql(settings.dsn, "UPDATE system_events SET message = 'changed by SQL' WHERE event_type = 'cached'")
    await sql(settings.dsn, "INSERT INTO event_deltas VALUES (date_trunc('hour', now()), 'cached', 'info', 5)")

    assert [found["message"] for found in (await collector.get(url)).json()] == ["as created"]
    assert await stats(collector) == before
    await create(collector, event_type="other")
    assert [found["message"] for found in (await collector.get(url)).json()] == ["changed by SQL"]
    assert (await stats(collector))["events_by_type"]["cached"] == 6


async def test_every_mutation_shows_in_the_next_read(collector: httpx.AsyncClient) -> None:
    async def read() -> tuple[list[str], int]:
        listed = (await collector.get("/api/events?event_type=fresh")).json()
        counts = (await stats(collector))["events_by_type"]
        return [found["message"] for found in listed], counts.get("fresh", 0)

    assert await read() == ([], 0)
    created = await create(collector, event_type="fresh", message="one")
    url = f"/api/events/{created['id']}"
    assert await read() == (["one"], 1)
    assert (await collector.get(url)).json()["message"] == "one"
    await collector.put(url, json={"message": "two"})
    assert await read() == (["two"], 1)
    assert (await collector.get(url)).json()["message"] == "two"
    await collector.delete(url)
    assert await read() == ([], 0)
    assert (await collector.get(url)).status_code == 404


async def test_a_write_by_one_collector_shows_in_the_next_read_of_another(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as one, serve(settings) as other:
        created = await create(one, event_type="shared", message="one")
        url = f"/api/events/{created['id']}"
        assert (await other.get(url)).json()["message"] == "one"
        await one.put(url, json={"message": "two"})
        assert (await other.get(url)).json()["message"] == "two"
        assert len((await other.get("/api/events?event_type=shared")).json()) == 1
        await one.delete(url)
        assert (await other.get("/api/events?event_type=shared")).json() == []
        assert (await other.get(url)).status_code == 404


async def test_without_redis_the_cache_in_the_process_is_as_fresh(settings: Settings, serve: Serve) -> None:
    async with serve(settings, redis_url="none") as client:
        created = await create(client, message="one")
        url = f"/api/events/{created['id']}"
        assert (await client.get(url)).json()["message"] == "one"
        await client.put(url, json={"message": "two"})
        assert (await client.get(url)).json()["message"] == "two"


# -- text and numbers that are hard to store


async def post_raw(client: httpx.AsyncClient, details: bytes) -> httpx.Response:
    body = b'{"event_type":"hard","severity":"info","message":"m","details":%b}' % details
    return await client.post("/api/events", content=body, headers={"Content-Type": "application/json"})


HARD: list[tuple[bytes, Any]] = [
    (rb'{"a":"x\u0000y"}', {"a": "x\ufffdy", "_adjusted_text": True}),
    (rb'{"a\u0000":1}', {"a\ufffd": 1, "_adjusted_text": True}),
    (rb'{"a":"\ud800"}', {"a": "\ufffd", "_adjusted_text": True}),
    (rb'{"a":["\udfff x"]}', {"a": ["\ufffd x"], "_adjusted_text": True}),
    (b'{"a":"\xff"}', {"a": "\ufffd", "_adjusted_text": True}),
    (rb'{"a":"\ud83d\ude00"}', {"a": "😀"}),
    (rb'{"a":"\\u0000"}', {"a": "\\u0000"}),
    (b'{"a":1,"a":2}', {"a": 2}),
    (b'{"n":%b}' % (b"7" * 500), {"n": int("7" * 500)}),
    (b'{"n":123456789012345678901234567890.5}', {"n": 123456789012345678901234567890.5}),
    (b'{"":{}}', {"": {}}),
    (b' \n{ "a" : [ ] } ', {"a": []}),
    (b"null", None),
]


async def test_what_json_allows_is_stored_and_what_postgres_refuses_is_replaced(collector: httpx.AsyncClient) -> None:
    for details, expected in HARD:
        answer = await post_raw(collector, details)

        assert answer.status_code == 201, (details, answer.text)
        assert answer.json()["details"] == expected
        assert (await collector.get(answer.headers["location"])).json()["details"] == expected


async def test_a_large_number_is_kept_exactly(collector: httpx.AsyncClient) -> None:
    answer = await post_raw(collector, b'{"n":1e300,"i":' + b"7" * 400 + b"}")

    found = (await collector.get(answer.headers["location"])).json()["details"]
    assert found == {"n": 10**300, "i": int("7" * 400)}


async def test_details_are_taken_up_to_the_depth_limit(collector: httpx.AsyncClient) -> None:
    deep = [await post_raw(collector, b'{"d":' * levels + b"1" + b"}" * levels) for levels in (32, 33)]

    assert [answer.status_code for answer in deep] == [201, 422]
    assert deep[1].json()["errors"][0]["code"] == "too_deep"


REFUSED: list[tuple[bytes, str]] = [
    (b'{"n":NaN}', "not_a_number"),
    (b'{"n":-Infinity}', "not_a_number"),
    (b'{"n":1e999999}', "number_out_of_range"),
    (b'{"n":[1e131071,1E-131071]}', "number_out_of_range"),
    (b'{"n":' + b"9" * 140_000 + b"}", "number_out_of_range"),
    (b'{"n":01}', "not_json"),
    (b'{"a":"raw \x00 NUL"}', "not_json"),
    (b'{"a":"raw \n newline"}', "not_json"),
    (rb'{"a":"\x41"}', "not_json"),
    (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "too_deep"),
    (b'{"a":' + b"[" * 100_000, "too_deep"),
    (rb'{"n":%b,"s":"\u0000"}' % (b"7" * 5000), "number_out_of_range"),
    (b"{", "not_json"),
    (b'{"a"}', "not_json"),
    (b"{}}", "not_json"),
]


async def test_what_is_no_json_or_beyond_postgres_is_refused_with_a_reason(collector: httpx.AsyncClient) -> None:
    for details, code in REFUSED:
        answer = await post_raw(collector, details)

        assert outcome(answer) == (422, "event_invalid"), details[:40]
        assert [error["code"] for error in answer.json()["errors"]] == [code], details[:40]


async def test_text_fields_are_cleaned_and_the_event_says_so(collector: httpx.AsyncClient) -> None:
    for name, hard in product(("event_type", "message", "source"), (r"\u0000", r"\ud800", r"\udc00\ud800")):
        fields = {"event_type": "t", "message": "m", "source": "s"} | {name: f"<{hard}>"}
        text = ",".join(f'"{field}":"{value}"' for field, value in fields.items())
        answer = await collector.post(
            "/api/events", content=f'{{{text},"severity":"info"}}', headers={"Content-Type": "application/json"}
        )

        assert answer.status_code == 201, answer.text
        read = (await collector.get(answer.headers["location"])).json()
        assert re.fullmatch("<\ufffd+>", read[name])
        assert read["details"] == {"_adjusted_text": True}


async def test_an_update_is_cleaned_alike(collector: httpx.AsyncClient) -> None:
    url = f"/api/events/{(await create(collector))['id']}"
    body = rb'{"message":"a\u0000","details":{"k":"\ud800"}}'
    answer = await collector.put(url, content=body, headers={"Content-Type": "application/json"})

    assert answer.json()["message"] == "a\ufffd"
    assert answer.json()["details"] == {"k": "\ufffd", "_adjusted_text": True}


async def test_two_collectors_never_hand_out_the_same_id(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as one, serve(settings) as other:
        ids = [(await create(client))["id"] for client in (one, other) * 5]

    assert len(set(ids)) == 10


async def test_events_that_are_stored_together_are_answered_with_their_own_timestamps(
    collector: httpx.AsyncClient,
) -> None:
    answers = await asyncio.gather(*(collector.post("/api/events", json=event()) for _ in range(20)))
    for answer in answers:
        created = answer.json()
        assert (await collector.get(f"/api/events/{created['id']}")).json() == created
