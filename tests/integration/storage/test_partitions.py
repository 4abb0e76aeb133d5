"""Days: an event finds its partition at the edges of a day, in the distant past, and where none was made."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from brain_collector.settings import Settings
from tests.support.collector import FOREIGN, event, ndjson, post_batch, sql, started

pytestmark = pytest.mark.anyio

HOMES = f"SELECT tableoid::regclass::text FROM system_events WHERE {FOREIGN} ORDER BY id"


def today() -> datetime:
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def test_the_last_microsecond_of_a_day_and_the_first_of_the_next_are_in_their_own_days(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    midnight = today()
    moments = [midnight - timedelta(microseconds=1), midnight, midnight + timedelta(hours=23, minutes=59, seconds=59)]
    moments.append(midnight.astimezone(None) - timedelta(microseconds=1))
    offset = f"{midnight + timedelta(hours=2):%Y-%m-%dT%H:%M:%S}+02:00"
    answer = await post_batch(
        collector, ndjson(*(event(timestamp=moment.isoformat()) for moment in moments), event(timestamp=offset))
    )

    assert answer.json()["accepted"] == 5
    here, before = (f"system_events_p{day:%Y%m%d}" for day in (midnight, midnight - timedelta(days=1)))
    assert [name for (name,) in await sql(settings.dsn, HOMES)] == [before, here, here, before, here]


async def test_the_distant_past_is_in_the_partition_before_the_first_day(
    collector: httpx.AsyncClient, settings: Settings
) -> None:
    sent = ["1970-01-01T00:00:00Z", "0001-01-02T00:00:00Z", f"{today() - timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"]
    await post_batch(collector, ndjson(*(event(timestamp=text) for text in sent)))

    assert await sql(settings.dsn, HOMES) == [("system_events_before",)] * 3


@pytest.mark.parametrize("n", [1, 300])  # by one statement, by COPY
async def test_a_day_that_nobody_made_is_made_by_the_event_that_needs_it(
    collector: httpx.AsyncClient, settings: Settings, n: int
) -> None:
    await started(settings.dsn)
    days = await sql(
        settings.dsn,
        "SELECT relname::text FROM pg_class WHERE relispartition AND relkind = 'r' AND relname >= $1",
        f"system_events_p{today():%Y%m%d}",
    )
    assert len(days) >= 7
    for (name,) in days:
        await sql(settings.dsn, f"DROP TABLE {name}")
    answer = await post_batch(collector, ndjson(*[event()] * n))

    assert (answer.status_code, answer.json()["accepted"]) == (200, n)
    assert set(await sql(settings.dsn, HOMES)) == {(f"system_events_p{today():%Y%m%d}",)}
