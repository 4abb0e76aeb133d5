"""Epochs: which database server the commit order belongs to, and where its positions begin to differ."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UP = (
    # A promoted standby has another timeline, and another cluster another system identifier. They name the server in
    # reports, and are 0 where the role may not read them. On a standby, the timeline is null.
    """
    CREATE FUNCTION database_identity(OUT identifier bigint, OUT timeline bigint)
    LANGUAGE plpgsql STABLE
    AS $$ BEGIN
        identifier := 0;
        IF NOT pg_is_in_recovery() THEN
            timeline := 0;
            timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::bigint;
        END IF;
        SELECT system_identifier INTO identifier FROM pg_control_system();
    EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_function THEN
        NULL;
    END $$
    """,
    """
    CREATE TABLE epochs (
        epoch bigint NOT NULL,
        identifier bigint NOT NULL,
        timeline bigint NOT NULL,
        database_oid bigint NOT NULL,
        started_at timestamptz NOT NULL,
        first_xid bigint NOT NULL,
        keeps_order boolean DEFAULT true NOT NULL,
        at timestamptz DEFAULT now() NOT NULL,
        forgotten_xid bigint DEFAULT 0 NOT NULL,
        forgotten_id bigint DEFAULT 0 NOT NULL,
        forgotten_until timestamptz,
        is_announced boolean DEFAULT false NOT NULL,
        CONSTRAINT epochs_pkey PRIMARY KEY (epoch)
    )
    """,
    # Clients of the previous release hold positions without an epoch, which are read as those of epoch 0. It is not
    # known which of its batches were deleted, so everything before the oldest one counts as forgotten.
    """
    INSERT INTO epochs (epoch, identifier, timeline, database_oid, started_at, first_xid, forgotten_xid,
        forgotten_id, forgotten_until, is_announced)
    SELECT
        CASE WHEN oldest.xid IS NULL THEN (extract(epoch FROM clock_timestamp()) * 1000)::bigint ELSE 0 END,
        present.identifier, coalesce(present.timeline, 0),
        (SELECT oid::bigint FROM pg_database WHERE datname = current_database()), pg_postmaster_start_time(), 0,
        coalesce(oldest.xid - 1, 0), CASE WHEN oldest.xid IS NULL THEN 0 ELSE 9223372036854775807 END,
        oldest.received_at, true
    FROM database_identity() AS present LEFT JOIN (
        SELECT xid::text::bigint AS xid, received_at FROM batches ORDER BY batches.xid LIMIT 1
    ) AS oldest ON true
    """,
)

DOWN = ("DROP TABLE epochs", "DROP FUNCTION database_identity")


def upgrade() -> None:
    """Execute one statement at a time: a distributed Postgres accepts no more."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Drop the epochs: positions of streams no longer have one."""
    for statement in DOWN:
        op.execute(statement)
