"""The tables in `storage/tables.py` are those of a migrated database: columns, indexes, constraints, sequences."""

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from brain_collector.settings import Settings
from brain_collector.storage.tables import metadata
from tests.support.collector import new_database, sql
from tests.support.engines import SuiteEngines

pytestmark = pytest.mark.anyio

# Partitions are created by the collector, `alembic_version` by Alembic.
TABLES = """
    SELECT oid, relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
        AND relname <> 'alembic_version'
"""
CATALOGUE = {
    "tables": f"""
        SELECT relname, relkind::text, reloptions, pg_get_partkeydef(oid) FROM pg_class
        WHERE oid IN (SELECT oid FROM ({TABLES}) AS t) ORDER BY 1
    """,
    "columns": f"""
        SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, attidentity::text,
            pg_get_expr(adbin, adrelid)
        FROM ({TABLES}) AS t JOIN pg_attribute ON attrelid = t.oid
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped ORDER BY relname, attnum
    """,
    "indexes": f"""
        SELECT relname, pg_get_indexdef(indexrelid) FROM ({TABLES}) AS t JOIN pg_index ON indrelid = t.oid
        ORDER BY 1, 2
    """,
    "constraints": f"""
        SELECT relname, conname, pg_get_constraintdef(c.oid)
        FROM ({TABLES}) AS t JOIN pg_constraint AS c ON conrelid = t.oid ORDER BY 1, 2
    """,
    "sequences": """
        SELECT sequencename, data_type::text, start_value, increment_by, cycle, cache_size FROM pg_sequences
        WHERE schemaname = 'public' ORDER BY 1
    """,
}


@pytest.mark.parametrize("kind", CATALOGUE)
async def test_the_migrated_schema_is_the_one_of_the_tables(
    settings: Settings, engines: SuiteEngines, kind: str
) -> None:
    migrated = await sql(settings.dsn, CATALOGUE[kind])
    with new_database(engines) as dsn:
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn))
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        await engine.dispose()
        described = await sql(dsn, CATALOGUE[kind])

    assert described == migrated
    assert migrated


def test_everything_in_the_schema_has_a_meaning() -> None:
    for table in metadata.sorted_tables:
        assert table.comment
        assert all(column.comment for column in table.columns), table.name
        assert all(index.info["use"] for index in table.indexes), table.name
