"""The commit order between two positions: events, counts and time ranges, also within a batch."""

from itertools import combinations_with_replacement

import httpx
import pytest

from brain_collector.jobs import idempotency_keys
from brain_collector.query.filter import Filter
from brain_collector.read.store import Store
from brain_collector.settings import Settings
from brain_collector.tail import commit_order
from brain_collector.tail.catch_up import FIRST_IDS, CatchUp
from brain_collector.tail.position import Position, after_transaction
from brain_collector.tail.resumption import Resumption
from brain_collector.tail.subscriber import Subscriber
from tests.support.collector import connected, event, ndjson, post_batch, sql

pytestmark = pytest.mark.anyio


async def test_between_two_positions_are_the_events_between_them_wherever_they_are(
    collector: httpx.AsyncClient, settings: Settings, database_url: str
) -> None:
    for _ in range(3):
        await post_batch(collector, ndjson(*[event()] * 3))
    rows = await sql(database_url, "SELECT xid::text::bigint, first_id, n FROM batches ORDER BY xid")
    store = Store(settings)
    epoch = (await commit_order.limit(store)).epoch
    events = [Position(epoch, xid, first_id + i) for xid, first_id, n in rows for i in range(n)]
    ends = [after_transaction(epoch, xid) for xid, *_ in rows]
    positions = sorted([Position(epoch, 0, 0), *events, *ends])
    try:
        for after, until in combinations_with_replacement(positions, 2):
            expected = [position for position in events if after < position <= until]
            pieces = (await commit_order.read(store, after, until)).pieces
            span = await commit_order.span(store, after, until)
            assert [
                Position(epoch, piece.xid, id) for piece in pieces for id in range(piece.first_id, piece.last_id + 1)
            ] == expected
            assert span.arrived == len(expected)
            assert (span.since is None) == (span.until is None) == (not expected)
    finally:
        await store.close()


async def test_a_stream_ends_if_the_batches_that_it_catches_up_with_are_deleted(
    collector: httpx.AsyncClient, settings: Settings, database_url: str
) -> None:
    for _ in range(3):
        await post_batch(collector, ndjson(*[event()] * FIRST_IDS))
    store = Store(settings)
    try:
        limit = await commit_order.limit(store)
        subscriber = Subscriber(Filter(), settings.max_stream_bytes)
        subscriber.position.set_result(limit)
        subscriber.resumption = Resumption(Position(limit.epoch, 0, 0))
        missed = CatchUp(store, settings).missed(subscriber)
        assert (await anext(missed)).parts
        async with connected(database_url) as connection:
            await connection.execute("UPDATE batches SET received_at = now() - interval '1 year'")
            await idempotency_keys.forget_some(connection, 1)
        with pytest.raises(commit_order.Forgotten):
            await anext(missed)
    finally:
        await store.close()
