"""Rejected lines, as they were sent."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UP = (
    "CREATE SEQUENCE rejected_lines_id_seq AS bigint",
    """
    CREATE TABLE rejected_lines (
        id bigint PRIMARY KEY DEFAULT nextval('rejected_lines_id_seq'),
        received_at timestamptz NOT NULL,
        caller text,
        batch_key uuid,
        line_index integer,
        code varchar(50) NOT NULL,
        detail text NOT NULL,
        line bytea NOT NULL,
        line_bytes integer NOT NULL
    )
    """,
    "ALTER SEQUENCE rejected_lines_id_seq OWNED BY rejected_lines.id",
    "CREATE INDEX idx_rejected_lines_received_at ON rejected_lines (received_at, id)",
)


def upgrade() -> None:
    """Execute one statement at a time: a distributed Postgres accepts no more."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Drop the table and all rejected lines."""
    op.execute("DROP TABLE rejected_lines")
