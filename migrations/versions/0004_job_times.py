"""When each background job was last done, by whichever collector."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adding a column whose default is evaluated once rewrites nothing; an older collector does not see it."""
    op.execute("ALTER TABLE jobs ADD COLUMN done_at timestamptz NOT NULL DEFAULT now()")


def downgrade() -> None:
    """Forget it."""
    op.execute("ALTER TABLE jobs DROP COLUMN done_at")
