"""The array types that the collector's connections know without reading the catalogue."""

import re
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

import brain_collector
from brain_collector.settings import Settings
from brain_collector.storage import hosts

pytestmark = pytest.mark.anyio

VALUES = {
    "bytea": [b"\0\xff", None],
    "bigint": [-(2**63), 2**63 - 1, None],
    "int": [-(2**31), 2**31 - 1, None],
    "jsonb": ['{"text": "a,b\\"}"}', None],
    "text": ["", "a,b", '"', None],
    "timestamptz": [datetime(2026, 2, 28, 23, 59, 59, 999999, UTC), None],
    "varchar": ["", "ä", None],
    "uuid": [UUID(int=2**128 - 1), None],
}


async def test_every_array_of_the_collector_s_statements_is_sent_and_read_without_reading_the_catalogue(
    settings: Settings,
) -> None:
    connection = await hosts.connect(settings.dsn, {}, timeout_s=60)
    executed: list[str] = []
    connection.add_query_logger(lambda query: executed.append(query.query))
    try:
        for type_, values in VALUES.items():
            assert await connection.fetchval(f"SELECT $1::{type_}[]", values) == values
            assert [row[0] for row in await connection.fetch(f"SELECT unnest($1::{type_}[])", values)] == values
        assert not [query for query in executed if "pg_catalog" in query]
        await connection.fetchval("SELECT $1::name[]", ["another type is read from it"])
        assert [query for query in executed if "pg_catalog" in query]
    finally:
        await connection.close()


def test_there_is_no_other_array_in_the_statements_of_the_collector() -> None:
    """An array that is missing here costs each connection a look at the catalogue."""
    files = Path(brain_collector.__file__).parent.rglob("*.py")
    used = {type_ for file in files for type_ in re.findall(r"::(\w+)\[\]", file.read_text())}

    assert used
    assert used <= VALUES.keys()
