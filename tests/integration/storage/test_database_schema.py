"""The page of the database schema lists what a migrated database has: tables, columns, types, indexes, functions."""

import re
from pathlib import Path

import pytest

from brain_collector.settings import Settings
from tests.support.collector import sql

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).parents[3] / "docs/reference/database-schema.md").read_text()
SECTIONS = {
    section.partition("\n")[0].strip("`"): section for section in PAGE.split("\n## ")[1:] if section.startswith("`")
}
OTHERS = {"alembic_version"}  # Alembic's own


def rows(section: str, first: str) -> list[list[str]]:
    """Return the cells of the table whose head begins with `first`."""
    table = section.partition(f"\n| {first} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


async def test_every_column_is_listed_with_its_type(settings: Settings) -> None:
    columns = await sql(
        settings.dsn,
        """
        SELECT relname::text, attname::text, format_type(atttypid, atttypmod), NOT attnotnull
        FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND attnum > 0 AND NOT attisdropped
        ORDER BY relname, attnum
        """,
    )
    listed = [
        (table, name.strip("`"), kind, null == "yes")
        for table, section in sorted(SECTIONS.items())
        for name, kind, null, _ in rows(section, "column")
    ]

    assert listed == [column for column in columns if column[0] not in OTHERS]


async def test_every_index_is_listed_with_its_columns(settings: Settings) -> None:
    indexes = await sql(
        settings.dsn,
        """
        SELECT t.relname::text, i.relname::text, pg_get_indexdef(i.oid), indisunique
        FROM pg_index JOIN pg_class i ON indexrelid = i.oid JOIN pg_class t ON indrelid = t.oid
        WHERE t.relnamespace = 'public'::regnamespace AND NOT t.relispartition
        ORDER BY 1, 2
        """,
    )
    listed = [
        (table, name.strip("`"), definition.strip("`"), unique == "yes")
        for table, section in sorted(SECTIONS.items())
        for name, definition, unique, _ in rows(section, "index")
    ]

    assert listed == [
        (table, name, definition.partition(" USING ")[2].partition(" WHERE ")[0], unique)
        for table, name, definition, unique in indexes
        if table not in OTHERS
    ]


async def test_every_function_is_listed(settings: Settings) -> None:
    functions = await sql(
        settings.dsn,
        """
        SELECT proname || '(' || pg_get_function_identity_arguments(oid) || ')', pg_get_function_result(oid)
        FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1
        """,
    )
    listed = re.findall(r"^\| `(\w+\(.*?\))` \| (\S+) \|", PAGE, re.MULTILINE)

    assert listed == functions
