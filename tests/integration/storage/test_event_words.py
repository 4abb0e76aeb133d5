"""The words of an event: the same as before the function became linear, in every shape of details."""

import asyncio
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.support.collector import connected, new_database
from tests.support.effort import times
from tests.support.engines import SuiteEngines

pytestmark = pytest.mark.anyio

MIGRATION = Path(__file__).parents[3] / "migrations/versions/0007_linear_words.py"

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20) | st.sampled_from(
    ["", " ", "a b", "disk-full", "db1.example.com", "/api/orders", "8e9f", "ÉTÉ", "x@y.z", "<b>", "a&b", "~", "\ua66e"]
)
value = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=12,
)
details = st.none() | st.dictionaries(text, value, max_size=5)


@pytest.fixture(scope="module")
def both(engines: SuiteEngines) -> Iterator[str]:
    """A database with the present function, and the one before as `former_words`."""
    spec = util.spec_from_file_location("linear_words", MIGRATION)
    assert spec is not None
    assert spec.loader is not None
    migration = util.module_from_spec(spec)
    spec.loader.exec_module(migration)

    async def add() -> None:
        async with connected(dsn) as connection:
            await connection.execute(migration.QUADRATIC.replace("FUNCTION event_words", "FUNCTION former_words"))

    with new_database(engines, template="migrated") as dsn:
        asyncio.run(add())
        yield dsn


@given(events=st.lists(st.tuples(text, text, st.none() | text, details), min_size=1, max_size=20))
@hypothesis_settings(max_examples=times(25))
async def test_the_words_of_an_event_are_those_of_the_function_before(
    both: str, events: list[tuple[str, str, str | None, Any]]
) -> None:
    columns = [list(column) for column in zip(*events, strict=True)]
    columns[3] = [None if each is None else msgspec.json.encode(each).decode() for each in columns[3]]
    async with connected(both) as connection:
        rows = await connection.fetch(
            "SELECT event_words(t, m, s, d::jsonb)::text, former_words(t, m, s, d::jsonb)::text "
            "FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS event (t, m, s, d)",
            *columns,
        )
    assert len(rows) == len(events)
    assert [row[0] for row in rows] == [row[1] for row in rows]


@pytest.mark.parametrize("given", ["null", "[]", '"text"', '["a", ["b"]]', "1", '{"a": null}'])
async def test_details_of_every_kind_have_the_same_words(both: str, given: str) -> None:
    async with connected(both) as connection:
        row = await connection.fetchrow(
            "SELECT event_words('t', 'm', null, $1::text::jsonb)::text, "
            "former_words('t', 'm', null, $1::text::jsonb)::text",
            given,
        )
    assert row is not None
    assert row[0] == row[1]


async def test_an_event_of_very_many_strings_has_its_words(both: str) -> None:
    """The function before took a time that grew with the square of their number."""
    strings = ["", "word"] * 150_000
    async with connected(both) as connection:
        words = await connection.fetchval(
            "SELECT tsvector_to_array(event_words('t', 'm', null, $1::text::jsonb))",
            msgspec.json.encode({"a": strings}).decode(),
        )
    assert {"t", "m", "word"} <= set(words)
