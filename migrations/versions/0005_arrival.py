"""Index of batches in the order of their arrival, which a tail reads."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index without blocking writers; an invalid index of an interrupted attempt is created again."""
    if op.get_context().as_sql:  # run by hand, it may be in a transaction, where CONCURRENTLY is not allowed
        op.execute("CREATE INDEX idx_batches_xid ON batches (xid)")
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # it blocks no writer, and must wait for transactions that began before
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_batches_xid")
        op.execute("CREATE INDEX CONCURRENTLY idx_batches_xid ON batches (xid)")
        op.execute("RESET lock_timeout")


def downgrade() -> None:
    """Drop the index; only the tail uses it."""
    op.execute("DROP INDEX idx_batches_xid")
