"""The events, partitioned by day; the batches that they came in; their counts as a journal and a folded table."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UP = (
    # Ids are drawn in blocks: a collector draws a block and assigns its ids in order, without further round trips.
    "CREATE SEQUENCE system_events_id_seq AS bigint INCREMENT BY 10000",
    """
    CREATE TABLE system_events (
        id bigint NOT NULL DEFAULT nextval('system_events_id_seq'),
        event_type varchar(50) NOT NULL,
        severity varchar(20) NOT NULL,
        message text NOT NULL,
        details jsonb,
        source varchar(100),
        "timestamp" timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (id, "timestamp")
    ) PARTITION BY RANGE ("timestamp")
    """,
    "ALTER SEQUENCE system_events_id_seq OWNED BY system_events.id",
    'CREATE INDEX idx_system_events_type ON system_events (event_type, "timestamp", id)',
    """
    CREATE INDEX idx_system_events_severity ON system_events (severity, "timestamp", id)
    WHERE severity IN ('error', 'critical')
    """,
    'CREATE INDEX idx_system_events_timestamp ON system_events ("timestamp", id)',
    # All events before the first day; the collector creates the partitions of later days.
    """
    CREATE TABLE system_events_before PARTITION OF system_events
    FOR VALUES FROM (MINVALUE) TO (date_trunc('day', now(), 'UTC') - interval '24 hours')
    """,
    # `xid` is the order of arrival: a reader that stays below pg_snapshot_xmin misses no batch.
    """
    CREATE TABLE batches (
        key uuid PRIMARY KEY,
        digest bigint NOT NULL,
        answer text,
        first_id bigint NOT NULL,
        n integer NOT NULL,
        min_ts timestamptz NOT NULL,
        max_ts timestamptz NOT NULL,
        xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        received_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX idx_batches_received_at ON batches (received_at)",
    """
    CREATE TABLE event_deltas (
        bucket timestamptz NOT NULL,
        event_type varchar(50) NOT NULL,
        severity varchar(20) NOT NULL,
        n bigint NOT NULL
    )
    """,
    """
    CREATE TABLE event_counts (
        grain varchar(4) NOT NULL,
        bucket timestamptz NOT NULL,
        event_type varchar(50) NOT NULL,
        severity varchar(20) NOT NULL,
        n bigint NOT NULL,
        PRIMARY KEY (grain, bucket, event_type, severity)
    ) WITH (fillfactor = 70)
    """,
    # One row for each background job: the collector that locks it runs the job; `monitor` is written to test writing.
    "CREATE TABLE jobs (name text PRIMARY KEY)",
    "INSERT INTO jobs (name) VALUES ('fold'), ('maintain'), ('monitor')",
)

DOWN = (
    "DROP TABLE jobs",
    "DROP TABLE event_counts",
    "DROP TABLE event_deltas",
    "DROP TABLE batches",
    "DROP TABLE system_events",
)


def upgrade() -> None:
    """Execute one statement at a time: a distributed Postgres accepts no more."""
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    """Drop all tables, events included."""
    for statement in DOWN:
        op.execute(statement)
