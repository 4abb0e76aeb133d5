"""Positions of another server: a stream that resumes says what it may have missed, and never remains silent."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest

from brain_collector.jobs import idempotency_keys
from brain_collector.settings import Settings
from brain_collector.storage import epochs
from tests.conftest import Serve
from tests.integration.tail.test_stream import Listening, listening, numbered
from tests.support.collector import BEGUN_HERE, connected, create, event, new_database, own_events, post_batch, sql
from tests.support.engines import SuiteEngines
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

BECOME_ANOTHER_SERVER = "UPDATE epochs SET timeline = timeline - 1, started_at = started_at - interval '1 second'"
"""SQL: the server was promoted since, as far as the collector can see."""
RESTARTED = "UPDATE epochs SET started_at = started_at - interval '1 second'"
"""SQL: the server was restarted since, as far as the collector can see, or it is a copy of another server's files."""


async def gap_of(tail: Listening) -> dict[str, Any]:
    """Wait for the first gap and return it."""

    async def is_told() -> bool:
        return any(message.name == "gap" for message in tail.messages)

    await eventually(is_told, "a gap is told")
    gap: dict[str, Any] = next(message.data for message in tail.messages if message.name == "gap")
    return gap


async def listed(client: httpx.AsyncClient, gap: dict[str, Any]) -> list[int]:
    """Return what a client finds that lists the gap."""
    parameters = {"source": "s", "from": gap["since"], "to": gap["until"], "limit": 1000}
    response = await client.get("/api/events", params=parameters)
    assert response.status_code == 200, response.text
    return sorted(each["details"]["number"] for each in response.json())


@contextmanager
def copied(engines: SuiteEngines, settings: Settings) -> Iterator[Settings]:
    """Yield settings of a copy of the database, to which nobody may be connected meanwhile."""
    with new_database(engines, template=name_of(settings)) as dsn:
        yield msgspec.structs.replace(settings, database_url=dsn)


def name_of(settings: Settings) -> str:
    """Return the name of the database."""
    (name,) = re.findall(r"(\w+)\?", settings.dsn)
    return str(name)


async def swap(engines: SuiteEngines, one: str, other: str) -> None:
    """Give two databases each other's name, whoever is connected."""
    for name in (one, other):
        await sql(engines.maintenance_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        end = "SELECT pg_terminate_backend(pid, 30000) FROM pg_stat_activity WHERE datname = $1"
        await sql(engines.maintenance_url, end, name)
    for old, new in ((one, "swapped"), (other, one), ("swapped", other)):
        await sql(engines.maintenance_url, f"ALTER DATABASE {old} RENAME TO {new}")
    for name in (one, other):
        await sql(engines.maintenance_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


async def ids_in(dsn: str) -> set[int]:
    """Return the ids of all events, the collector's own ones included."""
    return {id for (id,) in await sql(dsn, "SELECT id FROM system_events")}


async def position_after(client: httpx.AsyncClient, *numbers: int) -> tuple[int, int, int]:
    """Store events, and return the position of a stream that received them."""
    async with listening(client) as tail:
        await post_batch(client, numbered(*numbers))
        await tail.until(len(numbers))
        epoch, xid, id = map(int, tail.last_id.split("-"))
    return epoch, xid, id


@pytest.mark.parametrize("change", [(0, 10**9, 0), (1, 0, 0), (-1, 0, 0)], ids=["ahead", "later", "earlier"])
async def test_a_position_of_another_database_gets_a_gap_over_everything_and_then_new_events(
    collector: httpx.AsyncClient, change: tuple[int, int, int]
) -> None:
    position = await position_after(collector, 1, 2, 3)
    foreign = "-".join(str(number + added) for number, added in zip(position, change, strict=True))
    async with listening(collector, after=foreign) as tail:
        gap = await gap_of(tail)
        assert tail.messages[0].id == foreign  # a client that is cut off before the gap must get it again
        assert gap["arrived"] >= 3
        assert await listed(collector, gap) == [1, 2, 3]
        await post_batch(collector, numbered(4))
        await tail.until(1)
        assert tail.numbers == [4]


async def test_a_position_of_a_release_without_epochs_is_one_of_the_database_that_was_migrated(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client:
        _, xid, id = await position_after(client, 1)
    await sql(settings.dsn, "UPDATE epochs SET epoch = 0")
    async with serve(settings) as client:
        await post_batch(client, numbered(2))
        async with listening(client, after=f"{xid}-{id}") as tail:
            await tail.until(1)
            assert tail.numbers == [2]
            assert tail.last_id.count("-") == 1  # a collector of that release can resume it
            assert [message.name for message in tail.messages] == ["ready", "events"]


async def test_open_streams_continue_with_every_event_when_the_server_is_another_one(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client, listening(client) as tail:
        await post_batch(client, numbered(1))
        await tail.until(1)
        await sql(settings.dsn, BECOME_ANOTHER_SERVER)
        await post_batch(client, numbered(2))
        await tail.until(2)
        assert tail.numbers == [1, 2]
        before, after = (int(message.id.split("-")[0]) for message in (tail.messages[0], tail.messages[-1]))
        assert after > before


async def test_a_restart_of_the_server_begins_an_epoch_that_no_client_notices(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client, listening(client) as tail:
        await post_batch(client, numbered(1))
        await tail.until(1)
        position = tail.last_id
        await sql(settings.dsn, RESTARTED)
        await post_batch(client, numbered(2))
        await tail.until(2)
        assert tail.last_id.split("-")[0] > position.split("-")[0]
        async with listening(client, after=position) as resumed:
            await resumed.until(1)
        assert (tail.numbers, resumed.numbers) == ([1, 2], [2])
        assert all(message.name != "gap" for message in tail.messages + resumed.messages)
        assert "brain_collector_epoch_changes_total 0.0" in (await client.get("/metrics")).text
    assert await own_events(settings.dsn, "database_failed_over") == []


async def test_a_stream_on_a_copy_of_the_files_gets_a_gap_if_it_received_lost_events(
    settings: Settings, engines: SuiteEngines, serve: Serve
) -> None:
    async with serve(settings) as client:
        kept = "-".join(map(str, await position_after(client, 1)))
    with copied(engines, settings) as copy:
        for statement in (BEGUN_HERE, RESTARTED):
            await sql(copy.dsn, statement)
        async with serve(settings) as client:
            lost = "-".join(map(str, await position_after(client, 2)))
        ids = await ids_in(settings.dsn) - await ids_in(copy.dsn)
        async with serve(copy) as client:
            await post_batch(client, numbered(3))
            async with listening(client, after=lost) as tail:
                await gap_of(tail)
                await tail.until(1)
                assert tail.numbers == [3]
            async with listening(client, after=kept) as tail:
                await tail.until(1)
                assert [message.name for message in tail.messages] == ["ready", "events"]
        assert not ids & await ids_in(copy.dsn)


async def test_the_number_of_epochs_is_bounded(settings: Settings) -> None:
    await sql(
        settings.dsn,
        "INSERT INTO epochs (epoch, identifier, timeline, database_oid, started_at, first_xid) "
        "SELECT n, 1, 1, 1, now(), 0 FROM generate_series(1, $1::int) AS n",
        2 * epochs.MAX_EPOCHS,
    )
    await sql(settings.dsn, RESTARTED)
    async with connected(settings.dsn) as connection:
        newest = await epochs.ensure(connection)
    assert await sql(settings.dsn, "SELECT count(*), max(epoch) FROM epochs") == [(epochs.MAX_EPOCHS, newest)]


async def test_each_change_of_the_server_is_recorded_once_and_counted_by_every_collector(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as one, serve(settings) as other:

        async def is_counted() -> bool:
            texts = [(await client.get("/metrics")).text for client in (one, other)]
            return all("brain_collector_epoch_changes_total 0.0" not in text for text in texts)

        async def is_announced() -> bool:
            statement = "SELECT timeline, is_announced FROM epochs ORDER BY epoch DESC LIMIT 1"
            rows = await sql(settings.dsn, statement)
            return rows == [(1, True)]

        while not await is_counted():  # a collector that has just started knows no epoch before the present one
            await sql(settings.dsn, BECOME_ANOTHER_SERVER + " WHERE epoch = (SELECT max(epoch) FROM epochs)")
            await eventually(is_announced, "the change is noticed")

        async def is_recorded() -> bool:
            ((n,),) = await sql(settings.dsn, "SELECT count(*) FROM epochs")
            return len(await own_events(settings.dsn, "database_failed_over")) == int(n) - 1

        await eventually(is_recorded, "every change is recorded, and none twice")
    for details in await own_events(settings.dsn, "database_failed_over"):
        assert (details["timeline_before"], details["timeline"]) == (0, 1)
        assert details["identifier"] == details["identifier_before"]


async def test_a_position_that_the_lost_server_alone_reached_gets_a_gap_and_what_came_since(
    settings: Settings, serve: Serve
) -> None:
    """A standby that was behind assigns again the numbers that the lost primary had assigned."""
    async with serve(settings) as client:
        epoch, xid, id = await position_after(client, 1, 2)
        await sql(settings.dsn, BECOME_ANOTHER_SERVER)
        async with connected(settings.dsn) as connection:
            await epochs.ensure(connection)
        await post_batch(client, numbered(3))
        async with listening(client, after=f"{epoch}-{xid + 1_000}-{id}") as tail:
            assert set(await listed(client, await gap_of(tail))) <= {1, 2}
            await tail.until(1)
            assert tail.numbers == [3]
        async with listening(client, after=f"{epoch}-{xid}-{id - 1}") as tail:  # the standby had this one, too
            await tail.until(2)
            assert tail.numbers == [2, 3]
            assert all(message.name != "gap" for message in tail.messages)


async def test_a_position_from_before_a_restore_that_renumbered_the_batches_gets_a_gap(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client:
        position = await position_after(client, 1, 2)
    await sql(settings.dsn, "UPDATE batches SET xid = (xid::text::bigint + 1000000000)::text::xid8")
    async with serve(settings) as client:
        await post_batch(client, numbered(3))
        async with listening(client, after="-".join(map(str, position))) as tail:
            told = await listed(client, await gap_of(tail))
            await post_batch(client, numbered(4))
            await tail.until(4 - len(told))
            assert told + tail.numbers == [1, 2, 3, 4]


async def test_a_position_older_than_the_batches_that_are_kept_gets_a_gap(settings: Settings, serve: Serve) -> None:
    async with serve(settings) as client:
        epoch, xid, id = await position_after(client, 1, 2)
        await post_batch(client, numbered(3))
        await sql(settings.dsn, "UPDATE batches SET received_at = now() - interval '30 days'")
        await sql(settings.dsn, "UPDATE search_progress SET xid = 4611686018427387904")  # all of it is indexed
        async with connected(settings.dsn) as connection:
            assert await idempotency_keys.forget_some(connection, settings.idempotency_key_life_days)
        await post_batch(client, numbered(4))
        async with listening(client, after=f"{epoch}-{xid}-{id}") as tail:
            assert await listed(client, await gap_of(tail)) == [1, 2, 3]
            await tail.until(1)
            assert tail.numbers == [4]
            last_id = tail.last_id
        async with listening(client, after=last_id) as tail:
            await post_batch(client, numbered(5))
            await tail.until(1)
            assert [message.name for message in tail.messages] == ["ready", "events"]


async def test_a_position_is_one_of_a_batch_as_a_server_that_crashed_assigns_other_numbers_again(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client:
        await position_after(client, 1)
        for _ in range(5):
            await sql(settings.dsn, "SELECT pg_current_xact_id()")
        async with listening(client) as tail:
            _, xid, _ = tail.last_id.split("-")
            assert await sql(settings.dsn, "SELECT count(*) > 0 FROM batches WHERE xid = $1::text::xid8", xid) == [
                (True,)
            ]


async def test_a_stream_does_not_repeat_events_when_the_collector_is_behind_its_position(
    settings: Settings, serve: Serve
) -> None:
    async with (
        serve(settings) as ahead,
        serve(settings, stream_poll_s=3600.0) as behind,
        listening(behind),
        listening(ahead) as tail,
    ):
        await post_batch(ahead, numbered(1, 2))
        await tail.until(2)
        async with listening(behind, after=tail.last_id) as resumed:
            await resumed.until_ready()
            await post_batch(ahead, numbered(3))
            async with listening(behind, "?source=nobody"):  # lets the reader read
                await resumed.until(1)
            assert resumed.numbers == [3]


async def test_two_standbys_of_one_primary_that_are_promoted_in_turn_give_no_id_to_two_events(
    settings: Settings, engines: SuiteEngines, serve: Serve
) -> None:
    async with serve(settings) as client:
        await create(client)
    primary = await ids_in(settings.dsn)
    with copied(engines, settings) as one, copied(engines, settings) as other:
        for standby in (one, other):
            await sql(standby.dsn, BECOME_ANOTHER_SERVER)
            async with serve(standby) as client:
                await post_batch(client, numbered(1))
        promoted = [await ids_in(standby.dsn) - primary for standby in (one, other)]
    assert all(promoted)
    assert not promoted[0] & promoted[1]
    assert max(promoted[1]) < 2**53  # exact in JavaScript


async def test_a_backup_that_is_put_in_place_in_the_same_server_begins_an_epoch(
    settings: Settings, engines: SuiteEngines, serve: Serve
) -> None:
    with copied(engines, settings) as backup:
        async with serve(settings) as client:
            position = "-".join(map(str, await position_after(client, 1)))
            lost = await ids_in(settings.dsn)
            answers = [await client.get(f"/api/events/{id}") for id in lost]  # they are cached
            assert {answer.status_code for answer in answers} == {200}
            await swap(engines, name_of(settings), name_of(backup))

            async def is_stored() -> bool:
                return (await post_batch(client, numbered(2))).status_code == 200

            await eventually(is_stored, "the collector has reached the backup")
            async with listening(client, after=position) as tail:
                assert set(await listed(client, await gap_of(tail))) <= {2}
                await tail.until(1)
                assert tail.numbers == [2]

            async def is_recorded() -> bool:
                return bool(await own_events(settings.dsn, "database_failed_over"))

            await eventually(is_recorded, "the restore is recorded")
            answers = [await client.get(f"/api/events/{id}") for id in lost]
            assert {answer.status_code for answer in answers} == {404}
            assert not lost & await ids_in(settings.dsn)
    (details,) = await own_events(settings.dsn, "database_failed_over")
    assert details["identifier"] == details["identifier_before"]
    assert details["database_oid"] != details["database_oid_before"]


async def test_ids_of_a_new_epoch_are_above_every_id_that_the_lost_server_can_have_drawn(
    settings: Settings, serve: Serve
) -> None:
    async with serve(settings) as client:
        before = (await client.post("/api/events", json=event())).json()["id"]
    await sql(settings.dsn, BECOME_ANOTHER_SERVER)
    await sql(settings.dsn, "SELECT setval('system_events_id_seq', 1)")  # the draws were not replicated
    async with serve(settings) as client:
        after = (await client.post("/api/events", json=event())).json()["id"]
    assert after > before + epochs.SKIPPED_IDS - 20_000
