"""Batches in the order of their arrival: what a live tail reads."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Made beside the writers; a try that broke off left an invalid index, which is made anew."""
    if op.get_context().as_sql:  # run by hand it may be in a transaction, where nothing is made CONCURRENTLY
        op.execute("CREATE INDEX idx_batches_xid ON batches (xid)")
        return
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = 0")  # it holds up nobody, and has to wait for transactions that began before
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS idx_batches_xid")
        op.execute("CREATE INDEX CONCURRENTLY idx_batches_xid ON batches (xid)")
        op.execute("RESET lock_timeout")


def downgrade() -> None:
    """Only the tail misses it."""
    op.execute("DROP INDEX idx_batches_xid")
