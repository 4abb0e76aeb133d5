"""${message}"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Execute one statement at a time: a distributed Postgres accepts no more."""
    ${upgrades if upgrades else 'op.execute("")'}


def downgrade() -> None:
    """Undo the upgrade."""
    ${downgrades if downgrades else 'op.execute("")'}
