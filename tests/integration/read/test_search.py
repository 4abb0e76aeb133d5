"""Search by words: exact whatever the index is up to, newest first, page by page, and never unbounded."""

import asyncio
import itertools
import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.jobs import idempotency_keys
from brain_collector.query import search_terms
from brain_collector.read import search
from brain_collector.settings import Settings
from brain_collector.storage import migrate, search_index
from tests.conftest import Serve
from tests.support.collector import connected, create, event, ndjson, new_database, outcome, post_batch, sql
from tests.support.effort import times
from tests.support.engines import SuiteEngines
from tests.support.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio

ROUNDS = times(10)
DAY = datetime(2026, 3, 1, tzinfo=UTC)
WORDS = ["alpha", "Beta", "gamma", "delta", "disk", "8e9f", "ÉTÉ", "straße", "w_1", "db1.example.com", "/api/orders"]
QUERIES = [
    "alpha",
    "BETA gamma",
    '"alpha beta"',
    "alpha -beta",
    "-alpha",
    "disk or delta",
    'gamma "disk delta" or -alpha 8e9f',
    "straße",
    "w_1",
    "orders",
    '"api/orders"',
    "example.com alpha",
    "nowhere",
    "alpha -nowhere or nowhere",
]


def words_of(text: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[0-9A-Za-z\x80-\U0010ffff]+", text)]


def texts_of(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for each in inner for text in texts_of(each)]


def holds(event: dict[str, Any], query: str) -> bool:
    """Tell by the rules of the documentation whether an event matches; phrases here lie within one text."""
    texts = [event["event_type"], event["message"], event["source"] or "", *texts_of(event["details"])]
    found = [words_of(text) for text in texts]

    def there(term: str) -> bool:
        wanted = words_of(term)
        return any(wanted == words[i : i + len(wanted)] for words in found for i in range(len(words)))

    return any(
        all(there(term) != bool(minus) for minus, term in re.findall(r'(-?)("[^"]*"|\S+)', group))
        for group in query.split(" or ")
    )


async def store(client: httpx.AsyncClient, seed: int, n: int, *, late: int = 10**6) -> None:
    """Store events in batches of several sizes, out of order by up to `late` minutes, some with one timestamp."""
    draw = random.Random(seed)
    events = [
        event(
            event_type=draw.choice(["alpha_done", "test"]),
            message=" ".join(draw.choices(WORDS, k=draw.randint(0, 4))) or "-",
            source=draw.choice(["shop", "beta.shop", None]),
            details=draw.choice([None, {"a": draw.choice(WORDS), "n": 8, "deep": [{"b": draw.choice(WORDS)}]}]),
            timestamp=(DAY + timedelta(minutes=max(0, i // 3 - draw.randint(0, min(late, i // 3))))).isoformat(),
        )
        for i in range(n)
    ]
    rest = iter(events)
    while batch := list(itertools.islice(rest, draw.choice([1, 1, 2, 30]))):
        assert (await post_batch(client, ndjson(*batch))).status_code == 200


async def walked(client: httpx.AsyncClient, **parameters: Any) -> list[dict[str, Any]]:
    """Return all pages of a list."""
    found: list[dict[str, Any]] = []
    answer = await client.get("/api/events", params={"to": "2027-01-01T00:00:00Z", **parameters})
    while True:
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) <= int(parameters.get("limit", 100))
        found += answer.json()
        if "next" not in answer.links:
            return found
        answer = await client.get(answer.links["next"]["url"])


async def index(dsn: str, ids: int, steps: int) -> None:
    """Make blocks of what waits, however little it is, when no collector is at it and no transaction before is open."""
    async with connected(dsn) as connection:
        now = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")

        async def settled() -> bool:
            return bool(await connection.fetchval(SETTLED) > now)

        await eventually(settled, "everything before has ended")
        await connection.execute(f"SELECT pg_advisory_lock({search_index.LOCK})")  # the session's, so also each step's
        for _ in range(steps):
            await search_index.step(connection, ids)


SETTLED = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"


async def assert_exact(client: httpx.AsyncClient, queries: list[str]) -> None:
    everything = await walked(client, limit=1000)
    for query in queries:
        found = await walked(client, q=query, limit=random.Random(query).choice([7, 50, 1000]))
        for each in found:
            each.pop("matches", None)
        assert found == [each for each in everything if holds(each, query)], query


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no page end early because the machine is busy."""
    monkeypatch.setattr(search, "BUDGET_S", PATIENCE_S)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few events be many blocks."""
    monkeypatch.setattr(search_index, "BLOCK_IDS", 8)
    monkeypatch.setattr(search, "MAX_BATCH_IDS", 10)


@pytest.mark.usefixtures("small_blocks")
async def test_a_search_finds_what_matches_however_far_the_index_is(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    await store(collector, 1, 150)
    await assert_exact(collector, QUERIES)  # nothing is indexed
    await index(settings.dsn, 40, 2)
    await store(collector, 2, 60)
    await assert_exact(collector, QUERIES)  # a part of it, up to the middle of a batch
    await index(settings.dsn, 40, 20)
    await assert_exact(collector, QUERIES)
    ((blocks, places),) = await sql(
        settings.dsn,
        "SELECT count(*), (SELECT count(*) FROM batches, search_progress p WHERE batches.xid::text::bigint > p.xid) "
        "FROM search_blocks",
    )
    assert blocks > 20
    assert places < 40


@pytest.mark.usefixtures("small_blocks")
async def test_pages_are_short_when_the_time_is_spent_and_lose_nothing(
    collector: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(collector, 3, 80, late=2)
    await index(settings.dsn, 20, 3)
    monkeypatch.setattr(search, "BUDGET_S", 1e-9)
    monkeypatch.setattr(search, "MAX_BUDGETS", 1e15)
    first = await collector.get("/api/events", params={"q": "nowhere", "to": "2027-01-01T00:00:00Z"})
    assert first.json() == []
    assert "next" in first.links
    await assert_exact(collector, QUERIES)
    monkeypatch.setattr(search, "MAX_CANDIDATES", 12)
    await assert_exact(collector, QUERIES)


@pytest.mark.usefixtures("small_blocks")
async def test_an_export_as_json_is_json_although_its_first_pages_are_empty(
    collector: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    needle = await create(collector, message="needle", timestamp=DAY.isoformat())
    await store(collector, 3, 120)
    await index(settings.dsn, 30, 1)
    monkeypatch.setattr(search, "BUDGET_S", 1e-9)
    monkeypatch.setattr(search, "MAX_BUDGETS", 1e15)
    first = await collector.get("/api/events", params={"q": "needle"})
    assert (first.json(), "next" in first.links) == ([], True)
    export = await collector.get("/api/events/export", params={"q": "needle", "format": "json"})
    assert [found["id"] for found in export.json()] == [needle["id"]]


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(times(2)))
async def test_a_walk_meets_what_is_there_throughout_once_whatever_happens_meanwhile(
    collector: httpx.AsyncClient, settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(search, "MAX_CANDIDATES", 120)
    monkeypatch.setattr(search, "BUDGET_S", 1e-9)
    monkeypatch.setattr(search, "MAX_BUDGETS", 1e15)
    await store(collector, 20 + seed, 150, late=1)
    await index(settings.dsn, 30, draw.randint(0, 6))
    before = await walked(collector, limit=1000)
    touched: set[int] = set()
    steps = 0

    async def happen() -> None:
        match draw.choice(["index", "store", "change", "delete"]):
            case "index":
                await index(settings.dsn, draw.choice([5, 30]), 2)
            case "store":
                await store(collector, draw.randint(100, 10**6), draw.choice([1, 20]), late=1)
            case what:
                one = draw.choice(before)["id"]
                touched.add(one)
                path = f"/api/events/{one}"
                answer = await (
                    collector.delete(path)
                    if what == "delete"
                    else collector.put(path, json={"message": draw.choice(["alpha", "nothing", "delta disk"])})
                )
                assert answer.status_code in {200, 204, 404}, answer.text

    for query in ("alpha", "disk or delta", "-alpha"):
        found: list[int] = []
        parameters = {"q": query, "limit": draw.choice([3, 20]), "to": "2027-01-01T00:00:00Z"}
        answer = await collector.get("/api/events", params=parameters)
        while True:
            assert answer.status_code == 200, answer.text
            found += [each["id"] for each in answer.json()]
            if "next" not in answer.links:
                break
            if (steps := steps + 1) % 3 == 0 and steps < 90:
                await happen()
            answer = await collector.get(answer.links["next"]["url"])
        assert len(found) == len(set(found))
        known = [each["id"] for each in before if each["id"] not in touched]
        wanted = [each["id"] for each in before if each["id"] not in touched and holds(each, query)]
        assert [id for id in found if id in set(known)] == wanted


@pytest.mark.usefixtures("small_blocks")
async def test_events_that_take_long_to_look_at_are_looked_at_few_at_a_time(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "BUDGET_S", 2.0)
    monkeypatch.setattr(search, "MAX_BUDGETS", 1e15)
    async with serve(settings, read_deadline_s=3.0) as client:
        await store(client, 12, 45, late=2)
        await index(settings.dsn, 40, 10)
        await sql(settings.dsn, "ALTER FUNCTION event_words RENAME TO words_of")
        await sql(settings.dsn, SLOW_WORDS)
        await assert_exact(client, ["-nowhere"])
        span = {"from": DAY.isoformat(), "to": (DAY + timedelta(days=1)).isoformat(), "q": "-nowhere"}
        counted = await client.get("/api/events/facets", params=span)
        assert counted.status_code == 200, counted.text
        assert counted.json()["partial"] or counted.json()["total"] == 45


SLOW_WORDS = """
    CREATE FUNCTION event_words(event_type text, message text, source text, details jsonb) RETURNS tsvector
    LANGUAGE plpgsql COST 1000
    AS $$ BEGIN PERFORM pg_sleep(0.08); RETURN words_of(event_type, message, source, details); END $$
"""


async def test_a_changed_event_is_found_by_its_new_words_only(collector: httpx.AsyncClient, settings: Settings) -> None:
    made = await create(collector, message="red lamp", details={"a": "x"})
    await create(collector, message="other")
    await index(settings.dsn, 1, 10)
    path = f"/api/events/{made['id']}"
    assert (await collector.put(path, json={"message": "green lamp", "details": {"a": "yellow"}})).status_code == 200
    assert await walked(collector, q="red") == []
    assert [each["id"] for each in await walked(collector, q="green yellow")] == [made["id"]]
    assert (await collector.delete(path)).status_code == 204
    assert await walked(collector, q="green") == []


async def test_events_from_before_the_search_are_gathered_from_the_newest_down(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    await store(collector, 4, 100)
    await sql(  # as the migration leaves a database that has events
        settings.dsn,
        "UPDATE search_progress SET xid = pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1, id = 2^62, "
        "(older_ts, older_id) = (SELECT max(timestamp), 9223372036854775807 FROM system_events)",
    )
    refused = await collector.get("/api/events", params={"q": "alpha"})
    assert outcome(refused) == (503, "unavailable")
    assert "cannot be searched yet" in refused.json()["detail"]
    await index(settings.dsn, 30, 3)
    ((older,),) = await sql(settings.dsn, "SELECT older_ts FROM search_progress")
    everything = await walked(collector, limit=1000)
    since = (older + timedelta(seconds=1)).isoformat()
    found = await walked(collector, q="alpha", **{"from": since}, limit=1000)
    assert [each["id"] for each in found] == [
        each["id"] for each in everything if datetime.fromisoformat(each["timestamp"]) > older and holds(each, "alpha")
    ]
    assert found
    await index(settings.dsn, 30, 3)
    assert await sql(settings.dsn, "SELECT older_ts, older_id FROM search_progress") == [(None, None)]
    await assert_exact(collector, QUERIES)


async def test_the_collector_indexes_what_is_enough_and_forgets_no_batch_before(
    settings: Settings, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_index, "STEP_IDS", 64)
    async with serve(settings) as client:
        await store(client, 5, 300)
        async with connected(settings.dsn) as connection:
            while await connection.fetchval(WAITING) >= 64:
                await connection.execute("SELECT pg_sleep(0.05)")
            async with connection.transaction():
                await connection.execute(
                    f"SELECT pg_advisory_xact_lock({search_index.LOCK})"
                )  # the index stays as it is
                waiting = await connection.fetchval(WAITING)
                await connection.execute("UPDATE batches SET received_at = now() - interval '20 days'")
                await connection.execute(idempotency_keys.FORGET, settings.idempotency_key_life_days)
                assert await connection.fetchval(WAITING) == waiting
                assert await connection.fetchval("SELECT count(*) FROM batches") <= waiting
        await assert_exact(client, QUERIES)


WAITING = """
    SELECT coalesce(sum(
        CASE WHEN batches.xid::text::bigint = p.xid THEN least(n, first_id + n - 1 - p.id) ELSE n END), 0)
    FROM batches, search_progress p WHERE (batches.xid::text::bigint, first_id + n - 1) > (p.xid, p.id)
"""


@pytest.mark.parametrize("ahead", ["all", "some", "waiting"])
async def test_a_database_restored_into_a_younger_cluster_is_searched_like_any(
    settings: Settings, serve: Serve, ahead: str
) -> None:
    async with serve(settings) as client:
        await store(client, 10, 60)
        await index(settings.dsn, 30, 1)
    which = {
        "all": "true",
        "some": "first_id % 2 = 0",
        "waiting": "xid::text::bigint > (SELECT xid FROM search_progress)",
    }
    await sql(
        settings.dsn, f"UPDATE batches SET xid = (xid::text::bigint + 1000000000)::text::xid8 WHERE {which[ahead]}"
    )
    if ahead == "all":
        await sql(settings.dsn, "UPDATE search_progress SET xid = xid + 1000000000")
    async with serve(settings) as client:
        await store(client, 11, 60)
        await assert_exact(client, QUERIES)
        await index(settings.dsn, 30, 10)
        ((waiting,),) = await sql(settings.dsn, WAITING)
        assert waiting < 30
        await assert_exact(client, QUERIES)


async def test_a_restored_database_of_many_batches_is_prepared_however_long_that_takes(
    settings: Settings, serve: Serve
) -> None:
    many = 30_000  # renumbered by statements of 10,000
    await sql(
        settings.dsn,
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN NULL; END'",
    )
    await sql(
        settings.dsn, "CREATE TRIGGER slowly AFTER UPDATE ON batches FOR EACH STATEMENT EXECUTE FUNCTION slowly()"
    )
    await sql(
        settings.dsn,
        "INSERT INTO batches (key, digest, first_id, n, min_ts, max_ts, xid) "
        "SELECT gen_random_uuid(), 0, -n, 1, now(), now(), (1000000000 + n)::text::xid8 FROM generate_series(1, $1) n",
        many,
    )
    await sql(settings.dsn, "UPDATE search_progress SET xid = 1000000000 + $1", many)
    async with serve(settings, write_deadline_s=3.0) as client:
        assert (await client.get("/readyz")).status_code == 200
    assert await sql(settings.dsn, "SELECT count(*) FROM batches WHERE xid = '3'") == [(many,)]


@pytest.mark.parametrize("older", [False, True])
async def test_no_stream_waits_while_words_are_gathered(settings: Settings, serve: Serve, older: bool) -> None:  # noqa: FBT001 - a case of the table
    """Streams go as far as no transaction with a number is under way."""
    async with serve(settings) as client:
        await store(client, 13, 120)  # a start may index a few
    await sql(settings.dsn, "ALTER FUNCTION event_words RENAME TO words_of")
    await sql(settings.dsn, SLOW_WORDS.replace("COST 1000", "IMMUTABLE"))  # as the true one is
    if older:
        await sql(
            settings.dsn,
            "UPDATE search_progress SET xid = pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1, id = 2^62, "
            "(older_ts, older_id) = (SELECT max(timestamp), 9223372036854775807 FROM system_events)",
        )
    gathering = "SELECT FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'"
    async with connected(settings.dsn) as connection, connected(settings.dsn) as other:
        pid = connection.get_server_pid()
        stepping = asyncio.create_task(search_index.step(connection, 40))
        while not await other.fetch(gathering, pid):
            assert not stepping.done()
        later = await other.fetchval("SELECT pg_current_xact_id()::text::bigint")
        settled = await other.fetchval(SETTLED)
        assert not stepping.done()
        assert settled > later
        await stepping


async def test_two_collectors_index_each_event_once(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client, connected(settings.dsn) as one, connected(settings.dsn) as other:
        await store(client, 6, 50)
        async with one.transaction():
            await one.execute(f"SELECT pg_advisory_xact_lock({search_index.LOCK})")
            assert not await search_index.step(other, 10)
        assert await search_index.step(other, 10)


async def test_what_is_acknowledged_is_found_at_once_while_the_index_moves(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as one, serve(settings) as other, connected(settings.dsn) as connection:
        indexing = asyncio.Event()

        async def index_all_the_time() -> None:
            while not indexing.is_set():
                await search_index.step(connection, 5)

        async def write_and_search(writer: int) -> None:
            for n in range(ROUNDS):
                words = [f"w{writer}x{n}x{each}" for each in range(3)]
                sent = await post_batch([one, other][n % 2], ndjson(*(event(message=word) for word in words)))
                assert sent.json()["accepted"] == 3
                for client, word in zip([one, other, one], words, strict=True):
                    assert [each["message"] for each in await walked(client, q=word)] == [word]

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(index_all_the_time())
            async with asyncio.TaskGroup() as writers:
                for writer in range(4):
                    writers.create_task(write_and_search(writer))
            indexing.set()
        ((blocks,),) = await sql(settings.dsn, "SELECT count(*) FROM search_blocks")
        assert blocks > ROUNDS


async def test_matches_tell_where_the_words_are(collector: httpx.AsyncClient) -> None:
    await create(
        collector,
        event_type="payment_failed",
        message="🔥 Payment failed: payments fail, PAYMENT",
        source="shop",
        details={"a/b": ["no", {"c": "the payment"}], "payment": 1},
    )
    (found,) = await walked(collector, q='payment "payment failed" -refund')
    assert found["matches"] == [
        {"at": "/event_type", "start": 0, "end": 14},
        {"at": "/message", "start": 2, "end": 16},
        {"at": "/message", "start": 33, "end": 40},
        {"at": "/details/a~1b/1/c", "start": 4, "end": 11},
    ]
    assert "matches" not in (await walked(collector))[0]
    again = await collector.put(f"/api/events/{found['id']}", json=found)
    assert again.status_code == 200, again.text


async def test_a_search_is_narrowed_like_any_list(collector: httpx.AsyncClient) -> None:
    await store(collector, 7, 120)
    everything = await walked(collector, limit=1000)
    span = {"from": (DAY + timedelta(minutes=10)).isoformat(), "to": (DAY + timedelta(minutes=30)).isoformat()}
    for parameters in ({"source": "shop"}, {"event_type": "alpha_done"}, {"details.a": "disk"}, span):
        narrowed = await walked(collector, limit=1000, **parameters)
        found = await walked(collector, q="alpha or disk", limit=10, **parameters)
        assert [each["id"] for each in found] == [each["id"] for each in narrowed if holds(each, "alpha or disk")]
        assert 0 < len(found) < len(everything)


async def test_histogram_facets_and_export_search_too(collector: httpx.AsyncClient, settings: Settings) -> None:
    await store(collector, 8, 120)
    await index(settings.dsn, 50, 1)
    for query in ("alpha", "-alpha disk", "nowhere"):
        span = {"from": DAY.isoformat(), "to": (DAY + timedelta(days=1)).isoformat(), "q": query}
        found = await walked(collector, **span)
        assert (await collector.get("/api/events/histogram", params=span)).json()["total"] == len(found)
        assert (await collector.get("/api/events/facets", params=span)).json()["total"] == len(found)
        exported = await collector.get("/api/events/export", params=span)
        assert [msgspec.json.decode(line) for line in exported.content.splitlines()] == found


@pytest.mark.parametrize("query", ["", "   ", '""', "-", "!?", "or", "x" * 257, "a\0b"])
async def test_a_search_for_nothing_is_refused(collector: httpx.AsyncClient, query: str) -> None:
    assert outcome(await collector.get("/api/events", params={"q": query})) == (422, "parameter_invalid")


@pytest.mark.parametrize(
    "query", ["'", "a'b", "\\", ":*", "a:*b & !c | <-> (", '"unclosed phrase', "%", "a%b_c", "-- x", "ﬁ İ", "a" * 256]
)
async def test_whatever_is_typed_is_words(collector: httpx.AsyncClient, query: str) -> None:
    await create(collector, message=f"it reads {query} x")
    answer = await collector.get("/api/events", params={"q": query})
    if re.search(r"[^\W_]", query):
        assert answer.status_code == 200, answer.text
        assert len(answer.json()) == 1
    else:
        assert outcome(answer) == (422, "parameter_invalid")


async def test_an_offset_goes_with_no_search(collector: httpx.AsyncClient) -> None:
    answer = await collector.get("/api/events", params={"q": "a", "offset": 1})
    assert outcome(answer) == (422, "parameter_invalid")
    assert "Link" in answer.json()["detail"]


async def test_words_that_postgres_cannot_hold_cost_only_themselves(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    long = "z" * 3000
    made = await create(collector, message=f"before {long} after", details={"n": 10**40, "f": 1e300})
    await index(settings.dsn, 1, 5)
    assert [each["id"] for each in await walked(collector, q="before after")] == [made["id"]]


async def test_an_event_of_more_words_than_postgres_holds_is_found_by_its_first(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings, max_event_bytes=8 * 2**20) as client:
        for many in (" ".join(f"w{n:06}" for n in range(150_000)), "é " * 400_000, chr(0x1F525) * 600_000):
            made = await create(client, message=f"begins {many} ends", details={"a": many})
            assert [each["id"] for each in await walked(client, q="begins")] == [made["id"]]
            await index(settings.dsn, 1, 10)
            assert [each["id"] for each in await walked(client, q="begins", source="")] == []
            assert (await client.delete(f"/api/events/{made['id']}")).status_code == 204


async def test_an_index_that_cannot_be_made_keeps_nobody_from_writing(settings: Settings, serve: Serve) -> None:
    await sql(settings.dsn, "ALTER FUNCTION event_words RENAME TO event_words_before")
    await sql(settings.dsn, BROKEN_WORDS)
    async with serve(settings) as client:
        await create(client, message="first")
        await sql(settings.dsn, "UPDATE batches SET received_at = now() - interval '2 hours'")  # it waits no longer
    async with serve(settings) as client:
        assert (await client.get("/readyz")).status_code == 200
        assert await walked(client, event_type="test") != []
        await create(client, message="second")


BROKEN_WORDS = """
    CREATE FUNCTION event_words(event_type text, message text, source text, details jsonb) RETURNS tsvector
    LANGUAGE sql RETURN to_tsvector('simple', (1 / (length(message) - length(message)))::text)
"""


async def test_a_word_is_the_same_to_the_query_and_to_postgres(
    settings: Settings, collector: httpx.AsyncClient
) -> None:
    """What the parser of Postgres makes of a run of letters and digits, it makes of it in both."""
    draw = random.Random(9)
    signs = "abcXYZ0123456789éß" + "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~ \n\t" * 2
    texts = ["".join(draw.choices(signs, k=draw.randint(1, 60))) for _ in range(2000)]
    pairs = [(text, word) for text in texts for word in words_of(text)]
    missed = await sql(
        settings.dsn,
        "SELECT one, word FROM unnest($1::text[], $2::text[]) AS pair (one, word) "
        "WHERE NOT event_words('t', one, NULL, NULL) @@ websearch_to_tsquery('simple', '\"' || word || '\"')",
        *zip(*pairs, strict=True),
    )
    assert missed == []


@pytest.mark.parametrize(
    "locale",
    [
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
        "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'PG_UNICODE_FAST' LOCALE 'C'",
        "LOCALE_PROVIDER libc LOCALE 'C.UTF-8'",
    ],
)
async def test_a_locale_that_knows_more_letters_and_signs_leaves_out_nothing(
    engines: SuiteEngines, settings: Settings, serve: Serve, locale: str
) -> None:
    """What its parser makes of a text and of a query decides; what is looked at first leaves out none of it."""
    with new_database(engines, template=f"template0 ENCODING 'UTF8' {locale}") as url:
        await asyncio.to_thread(migrate.upgrade, url)
        async with serve(msgspec.structs.replace(settings, database_url=url)) as client:
            await create(client, message="it said 'timeout' > 5, ΔΣ.Δ ÉTÉ; loading x", details={"a": ["3 km"]})
            for query in (
                "timeout",
                "“timeout”",
                '"timeout → 5"',
                "loading…",
                "loading… x",
                "3\u2003km",
                "ΔΣ",
                "été",
            ):
                exact = await sql(
                    url,
                    "SELECT id FROM system_events WHERE event_type = 'test' "
                    "AND event_words(event_type, message, source, details) @@ websearch_to_tsquery('simple', $1)",
                    search_terms.parse(query).query,
                )
                found = await walked(client, q=query)
                assert [(each["id"],) for each in found] == exact, query
