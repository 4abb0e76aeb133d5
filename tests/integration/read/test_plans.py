"""Plans at 300,000 events over 30 days: lists walk the index made for them, and touch only the days they need.

Each query is the store's own, planned with its values and without (as a prepared statement is after some runs).
"""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import asyncpg as dialect
from sqlalchemy.sql.selectable import TextualSelect

from brain_collector.counts.totals import totals
from brain_collector.query.cursor import Position
from brain_collector.query.filter import DetailsMatch, Filter, newest_first
from brain_collector.query.page_bytes import within_bytes
from brain_collector.settings import Settings
from brain_collector.storage import partitions
from tests.support.collector import connected, new_database, sql
from tests.support.engines import SuiteEngines

pytestmark = pytest.mark.anyio

DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]
DAYS = 30
EVENTS = 300_000
TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)

FILL = f"""
    INSERT INTO system_events (id, event_type, severity, message, details, source, "timestamp")
    SELECT n,
        CASE WHEN n % 1000 = 0 THEN 'rare' WHEN n % 10 = 0 THEN 'some' ELSE 'type' || n % 40 END,
        CASE WHEN n % 500 = 1 THEN 'critical' WHEN n % 100 = 2 THEN 'error' WHEN n % 10 = 3 THEN 'warning'
            ELSE 'info' END,
        'm', jsonb_build_object('n', n), 's', $1::timestamptz + n * interval '{DAYS} days' / {EVENTS}
    FROM generate_series(0, {EVENTS - 1}) AS n
"""


@pytest.fixture(scope="module")
def filled(engines: SuiteEngines) -> Iterator[str]:
    """A database of 30 full days, analysed."""
    with new_database(engines, template="migrated") as dsn:
        asyncio.run(fill(dsn))
        yield dsn


async def fill(dsn: str) -> None:
    start = TODAY - timedelta(days=DAYS)
    async with connected(dsn) as connection:
        for (name,) in await sql(
            dsn, "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'system_events'::regclass"
        ):
            await connection.execute(f"DROP TABLE {name}")
        await connection.execute(
            "CREATE TABLE system_events_before PARTITION OF system_events "
            f"FOR VALUES FROM (MINVALUE) TO ('{start.isoformat()}')"
        )
        await partitions.ensure(connection, Settings())
        await connection.execute(FILL, start)
        await connection.execute("VACUUM ANALYZE system_events")


class Node(msgspec.Struct, frozen=True):
    """A scan of a plan: its kind, the index without the partition's name, the day, what it leaves to filter."""

    kind: str
    index: str
    day: str
    filters: str


def page(wanted: Filter, *, limit: int, after: Position | None = None) -> TextualSelect:
    """Return the query for a page, as the store makes it."""
    return within_bytes(newest_first(wanted, limit=limit, after=after), 2**22)


async def plan(dsn: str, query: Select[Any] | TextualSelect, mode: str) -> tuple[list[Node], set[str]]:
    """Return the scans of the events, and the types of all nodes."""
    compiled = query.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    values = [compiled.params[name] for name in compiled.positiontup or []]
    async with connected(dsn) as connection:
        await connection.execute(f"SET plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE asked AS {compiled}")
        execute = f"EXECUTE asked({', '.join(map(literal, values))})" if values else "EXECUTE asked"
        (top,) = msgspec.json.decode(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {execute}"))
    nodes = list(walk(top["Plan"]))
    scans = [
        Node(
            node["Node Type"],
            next(each.get("Index Name", "") for each in [*node.get("Plans", []), node]).replace(
                node["Relation Name"], "*"
            ),
            node["Relation Name"].removeprefix("system_events_"),
            node.get("Filter", ""),
        )
        for node in nodes
        if node.get("Relation Name", "").startswith("system_events")
    ]
    return scans, {node["Node Type"] for node in nodes}


def walk(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from walk(child)


def literal(value: Any) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(literal, value))}]"
    if isinstance(value, int):
        return str(value)
    return "'{}'".format(value.isoformat() if isinstance(value, datetime) else str(value).replace("'", "''"))


MODES = pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
WINDOW = Filter(since=TODAY - timedelta(days=3), until=TODAY - timedelta(days=2))
DEEP = Position(TODAY - timedelta(days=20, hours=12), 100_000)

BY_TIME = "*_timestamp_id_idx"
BY_TYPE = "*_event_type_timestamp_id_idx"
BY_SEVERITY = "*_severity_timestamp_id_idx"
BY_ID = "*_pkey"

WALKS = {
    "no filter": (Filter(), BY_TIME),
    "a type": (Filter(event_types=("some",)), BY_TYPE),
    "a rare type": (Filter(event_types=("rare",)), BY_TYPE),
    "an absent type": (Filter(event_types=("absent",)), BY_TYPE),
    "several types": (Filter(event_types=("absent", "some", "rare")), BY_TYPE),
    "errors": (Filter(severities=("error",)), BY_SEVERITY),
    "at least errors": (Filter(severities=("error", "critical")), BY_SEVERITY),
    "at least warnings": (Filter(severities=("warning", "error", "critical")), BY_TIME),
    "a path in the details": (Filter(details=(DetailsMatch(("n",), "7"),)), BY_TIME),
    "a source": (Filter(source="s"), BY_TIME),
}


@MODES
@pytest.mark.parametrize("after", [None, DEEP], ids=["the first page", "a deep page"])
@pytest.mark.parametrize(("wanted", "index"), WALKS.values(), ids=WALKS.keys())
async def test_a_page_walks_its_index_in_order(
    filled: str, wanted: Filter, index: str, after: Position | None, mode: str
) -> None:
    scans, kinds = await plan(filled, page(wanted, limit=101, after=after), mode)

    full = [node for node in scans if not empty(node.day)]
    edge = f"p{DEEP.timestamp:%Y%m%d}"  # of its day half is left to walk, by whatever index
    assert {node.index for node in full if after is None or node.day != edge} == {index}
    if mode == "force_generic_plan":  # who knows that there are few may sort them
        assert kinds.isdisjoint({"Sort", "Incremental Sort"})
    opened = {node.day for node in full}  # of a deep page, not the days above it
    assert len(opened) == (DAYS if after is None else DAYS - 20)


def empty(day: str) -> bool:
    """Tell whether the day has no events: then it does not matter how it is read."""
    return day == "before" or day >= f"p{TODAY:%Y%m%d}"


@MODES
async def test_a_time_range_opens_its_days_only(filled: str, mode: str) -> None:
    days = {f"p{TODAY - timedelta(days=3):%Y%m%d}"}
    for wanted in (
        WINDOW,
        msgspec.structs.replace(WINDOW, source="s"),
        msgspec.structs.replace(WINDOW, ids=(1, 2, 3)),
        msgspec.structs.replace(WINDOW, event_types=("a", "b")),
        msgspec.structs.replace(WINDOW, severities=("error", "critical")),
    ):
        scans, _ = await plan(filled, page(wanted, limit=101), mode)
        assert {node.day for node in scans} == days, wanted


@MODES
@pytest.mark.parametrize("n", [1, 3, 1_000])
async def test_events_of_a_list_of_ids_are_found_by_their_ids(filled: str, n: int, mode: str) -> None:
    wanted = Filter(ids=tuple(range(100_000, 100_000 + n)))
    scans, _ = await plan(filled, page(wanted, limit=min(n, 100) + 1), mode)

    full = [node for node in scans if not empty(node.day)]
    assert len(full) == DAYS
    assert {node.index for node in full} == {BY_ID}
    assert not any("id" in node.filters for node in full)


@MODES
async def test_counts_read_the_events_of_the_partial_hours_only(filled: str, mode: str) -> None:
    wanted = Filter(
        event_types=("some",), since=TODAY - timedelta(days=20, minutes=-7), until=TODAY - timedelta(days=10, minutes=7)
    )
    scans, _ = await plan(filled, totals(wanted, TODAY - timedelta(days=1), 1_000), mode)

    counted = [node for node in scans if node.kind != "Index Only Scan" and not empty(node.day)]
    assert all(node.kind in {"Index Scan", "Bitmap Heap Scan"} for node in counted), scans


async def test_no_event_beyond_the_size_of_a_page_is_read(filled: str) -> None:
    """Postgres reads on for two events, one for each of the windows that add up the sizes."""
    async with connected(filled) as connection:
        compiled = within_bytes(newest_first(Filter(), limit=1_001), 10_000).compile(dialect=DIALECT)
        values = [compiled.params[name] for name in compiled.positiontup or []]
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled}", *values)
        (top,) = msgspec.json.decode(explained)
        n_shown = len(await connection.fetch(str(compiled), *values))
    n_read = max(node["Actual Rows"] for node in walk(top["Plan"]) if "Relation Name" in node)
    assert 10 < n_shown <= n_read < n_shown + 5
