"""Creates indexes in migrations while the table is written to, without blocking the writers.

def upgrade() -> None:
    create_index_online("idx_system_events_source", "system_events", '(source, "timestamp", id)')
"""

from typing import Any, Final

from alembic import op

MAX_NAME_BYTES: Final = 63

# The partitions without an attached index of this parent index.
_MISSING: Final = """
    SELECT tree.relid::regclass::text AS partition, relname
    FROM pg_partition_tree('{table}') tree JOIN pg_class ON pg_class.oid = tree.relid
    WHERE tree.isleaf AND NOT EXISTS (
        SELECT FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid
        WHERE inhparent = '{name}'::regclass AND indrelid = tree.relid
    ) ORDER BY 1
"""

_VALID: Final = "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid = to_regclass('{name}')"


def create_index_online(name: str, table: str, definition: str) -> None:
    """Create an index on a partitioned table while the table is read and written.

    The parent index is created first, ON ONLY, so that new partitions have it. Then each partition gets its own index
    CONCURRENTLY, which is attached. With the last one, Postgres marks the parent index as valid. If it is interrupted,
    all finished steps are kept, and the next run resumes with the remaining partitions.

    `definition` is the part of CREATE INDEX after the table's name: columns in parentheses, and WHERE.
    This must be the only step of its migration: earlier steps would be committed, and executed again.
    """
    with op.get_context().autocommit_block():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON ONLY {table} {definition}")
        if op.get_context().as_sql:
            return
        lock_timeout = _scalar("SHOW lock_timeout")
        while missing := op.get_bind().exec_driver_sql(_MISSING.format(name=name, table=table)).all():
            for partition, relname in missing:
                partition_index = f"{name}_{relname}"
                assert len(partition_index) <= MAX_NAME_BYTES, f"{partition_index} is too long: shorten the index name"
                _index_partition(partition_index, partition, name, definition, lock_timeout)


def _index_partition(name: str, partition: str, parent: str, definition: str, lock_timeout: str) -> None:
    if not _scalar(_VALID.format(name=name)):
        op.execute("SET lock_timeout = 0")  # it blocks nothing, and must wait for older transactions
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # an interrupted run leaves it invalid
        op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {partition} {definition}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
    op.execute(f"ALTER INDEX {parent} ATTACH PARTITION {name}")


def _scalar(statement: str) -> Any:
    return op.get_bind().exec_driver_sql(statement).scalar()
