"""Idempotency by a keyed hash, and browser sessions that can be ended."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

INDEX = "UNIQUE INDEX {online} idx_batches_request_hash ON batches (request_hash) WHERE request_hash IS NOT NULL"

TABLES = (
    # Keys are inserted by the first collector that needs them. Without this table it stores no batch, so no row has a
    # hash before the index is there.
    "CREATE TABLE hash_keys (name text PRIMARY KEY, value bytea NOT NULL CHECK (length(value) = 32))",
    """
    CREATE TABLE sessions (
        sha256 bytea PRIMARY KEY CHECK (length(sha256) = 32),
        api_key_id bigint NOT NULL,
        scheme text NOT NULL,
        began_at timestamptz NOT NULL
    )
    """,
)

DOWN = (
    "DROP TABLE sessions",
    "DROP TABLE hash_keys",
    "DROP INDEX idx_batches_request_hash",
    "ALTER TABLE batches DROP COLUMN caller, DROP COLUMN request_hash",
)


def upgrade() -> None:
    """Add columns, then their index without blocking writers, then tables; after an interruption, all of it again."""
    columns = "ALTER TABLE batches ADD COLUMN {new} request_hash uuid, ADD COLUMN {new} caller text"
    if op.get_context().as_sql:  # run by hand, it may be in a transaction, where CONCURRENTLY is not allowed
        op.execute(columns.format(new=""))
        op.execute("CREATE " + INDEX.format(online=""))
        for statement in TABLES:
            op.execute(statement)
        return
    with op.get_context().autocommit_block():
        op.execute(columns.format(new="IF NOT EXISTS"))
        lock_timeout = op.get_bind().exec_driver_sql("SHOW lock_timeout").scalar()
        op.execute("SET lock_timeout = 0")  # it blocks no writer, and must wait for transactions that began before
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_batches_request_hash")
        op.execute("CREATE " + INDEX.format(online="CONCURRENTLY"))
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Drop all of it; users of the dashboard have to log in again."""
    for statement in DOWN:
        op.execute(statement)
