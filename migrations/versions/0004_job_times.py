"""The time at which each background job was last done, by any collector."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a column. Its default is evaluated once, so no row is rewritten; an older collector ignores it."""
    op.execute("ALTER TABLE jobs ADD COLUMN done_at timestamptz NOT NULL DEFAULT now()")


def downgrade() -> None:
    """Drop the column."""
    op.execute("ALTER TABLE jobs DROP COLUMN done_at")
