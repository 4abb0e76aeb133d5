"""API keys and their scopes. Only the SHA-256 of a key is stored, never its text."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLE = """
    CREATE TABLE api_keys (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        name varchar(100) NOT NULL,
        prefix varchar(16) NOT NULL UNIQUE,
        sha256 bytea NOT NULL CHECK (length(sha256) = 32),
        scopes text[] NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz,
        revoked_at timestamptz,
        last_used_at timestamptz
    )
"""


def upgrade() -> None:
    """Create the table."""
    op.execute(TABLE)


def downgrade() -> None:
    """Drop the table and every key: a collector without a bootstrap key is open again."""
    op.execute("DROP TABLE api_keys")
