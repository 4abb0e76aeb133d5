"""What a migration calls to change a table that is being written to, so that no writer waits behind it.

def upgrade() -> None:
    create_index_online("idx_system_events_source", "system_events", '(source, "timestamp", id)')
"""

from typing import Any, Final

from alembic import op

MAX_NAME_BYTES: Final = 63

# Leaves of the tree that have no valid index attached to the named one, and what an earlier try may have left there.
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
    """Create an index on a partitioned table while it is read and written.

    The parent's is made first, ON ONLY, so that partitions made from then on have it; then one partition after the
    other gets its own CONCURRENTLY, and is attached. When the last is, Postgres makes the whole index valid.
    Everything that ran is kept when it breaks off: run again, it goes on with the partitions that are left.

    `definition` is what stands behind the table's name in CREATE INDEX: columns in parentheses, and WHERE.
    It has to be the only step of its migration: what came before it would be committed, and done again.
    """
    with op.get_context().autocommit_block():
        op.execute(f"CREATE INDEX IF NOT EXISTS {name} ON ONLY {table} {definition}")
        if op.get_context().as_sql:
            return
        lock_timeout = _scalar("SHOW lock_timeout")
        while missing := op.get_bind().exec_driver_sql(_MISSING.format(name=name, table=table)).all():
            for partition, relname in missing:
                own = f"{name}_{relname}"
                assert len(own) <= MAX_NAME_BYTES, f"{own} is too long for Postgres: give the index a shorter name"
                _index_partition(own, partition, name, definition, lock_timeout)


def _index_partition(own: str, partition: str, parent: str, definition: str, lock_timeout: str) -> None:
    if not _scalar(_VALID.format(name=own)):
        op.execute("SET lock_timeout = 0")  # it holds up nobody, and has to wait for transactions that began before
        op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {own}")  # a try that broke off left it invalid
        op.execute(f"CREATE INDEX CONCURRENTLY {own} ON {partition} {definition}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
    op.execute(f"ALTER INDEX {parent} ATTACH PARTITION {own}")


def _scalar(statement: str) -> Any:
    return op.get_bind().exec_driver_sql(statement).scalar()
