"""Every table of the database, as the migrations leave it. Queries and the reference of the schema are made from these.

`migrations/` is what creates and changes the schema; a test compares its result with this file.
"""

from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Sequence,
    String,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

metadata: Final = MetaData()

_TIME: Final = DateTime(timezone=True)


class TransactionId(UserDefinedType[Any]):
    """Postgres' `xid8`: the id of a transaction, which does not wrap around."""

    cache_ok = True

    def get_col_spec(self, **_options: Any) -> str:
        return "xid8"


def _index(name: str, *columns: str, use: str, **options: Any) -> Index:
    return Index(name, *columns, info={"use": use}, **options)


def _primary_key(*columns: str, name: str, use: str = "") -> PrimaryKeyConstraint:
    return PrimaryKeyConstraint(*columns, name=name, info={"use": use})


_event_ids: Final = Sequence("system_events_id_seq", increment=10_000, data_type=BigInteger, metadata=metadata)

system_events: Final = Table(
    "system_events",
    metadata,
    Column(
        "id",
        BigInteger,
        nullable=False,
        server_default=_event_ids.next_value(),
        comment="drawn from the sequence `system_events_id_seq` in blocks of 10,000; unique over all partitions, "
        "ascending within a batch",
    ),
    Column("event_type", String(50), nullable=False, comment="what happened"),
    Column("severity", String(20), nullable=False, comment="`info`, `warning`, `error` or `critical`"),
    Column("message", Text, nullable=False, comment="a sentence for people"),
    Column("details", JSONB, comment="everything else, as a JSON object; null if there is nothing"),
    Column("source", String(100), comment="the origin of the event; `collector` is reserved for own events"),
    Column(
        "timestamp",
        _TIME,
        nullable=False,
        server_default=func.now(),
        comment="when it happened, according to the client; by default the time of arrival",
    ),
    Column("created_at", _TIME, nullable=False, server_default=func.now(), comment="when it was stored"),
    _primary_key("id", "timestamp", name="system_events_pkey", use="single events"),
    _index("idx_system_events_type", "event_type", "timestamp", "id", use="lists by type"),
    _index(
        "idx_system_events_severity",
        "severity",
        "timestamp",
        "id",
        use="lists by severity; only rows with `error` or `critical`",
        postgresql_where=text("severity IN ('error', 'critical')"),
    ),
    _index("idx_system_events_timestamp", "timestamp", "id", use="lists without another filter, and their order"),
    comment="The events, partitioned by the day of their timestamp. The partition of a day is "
    "`system_events_p<yyyymmdd>`; `system_events_before` holds the days before the installation. Partitions are "
    "created `DAYS_AHEAD` days ahead.",
    postgresql_partition_by='RANGE ("timestamp")',
)

batches: Final = Table(
    "batches",
    metadata,
    Column(
        "key",
        Uuid,
        nullable=False,
        comment="the idempotency key; the collector draws one if the request has none, and derives one if another "
        "caller has used it for another body",
    ),
    Column(
        "digest",
        BigInteger,
        nullable=False,
        comment="length and CRC-32 of the body, negative for a single event: compared by releases before 0.2.0, and "
        "for rows of theirs",
    ),
    Column("answer", Text, comment="the receipt of a batch, as JSON, for a repeated request"),
    Column("first_id", BigInteger, nullable=False, comment="the id of the first event; the others follow it"),
    Column("n", Integer, nullable=False, comment="the number of events"),
    Column("min_ts", _TIME, nullable=False, comment="the earliest timestamp"),
    Column("max_ts", _TIME, nullable=False, comment="the latest timestamp"),
    Column(
        "xid",
        TransactionId,
        nullable=False,
        server_default=func.pg_current_xact_id(),
        comment="the transaction that stored the batch: batches below `pg_snapshot_xmin` are complete",
    ),
    Column("received_at", _TIME, nullable=False, server_default=func.now(), comment="when it was stored"),
    Column(
        "request_hash",
        Uuid,
        comment="keyed hash of idempotency key and body, the same for every caller; null without an idempotency key",
    ),
    Column("caller", Text, comment="`key:<prefix>`, `bootstrap`, `open` or `collector`; null like `request_hash`"),
    _primary_key("key", name="batches_pkey", use="idempotency"),
    _index(
        "idx_batches_request_hash",
        "request_hash",
        use="idempotency: the same key and body are stored once",
        unique=True,
        postgresql_where=text("request_hash IS NOT NULL"),
    ),
    _index("idx_batches_received_at", "received_at", use="deletion of old rows"),
    _index("idx_batches_xid", "xid", use="streams and the search index"),
    comment="One row per request that stored events: its idempotency key and its position in the commit order. Rows "
    "are deleted `IDEMPOTENCY_KEY_LIFE_DAYS` after their arrival.",
)

event_deltas: Final = Table(
    "event_deltas",
    metadata,
    Column("bucket", _TIME, nullable=False, comment="the hour of the events' timestamps"),
    Column("event_type", String(50), nullable=False, comment="their type"),
    Column("severity", String(20), nullable=False, comment="their severity"),
    Column("n", BigInteger, nullable=False, comment="the change of the count; negative if events were deleted"),
    comment="The journal of counts: changes that are not in `event_counts` yet. Each transaction that stores, changes "
    "or deletes events appends to it; a background job folds it every `FOLD_INTERVAL_S`.",
)

event_counts: Final = Table(
    "event_counts",
    metadata,
    Column(
        "grain",
        String(4),
        nullable=False,
        comment="`hour` or `day`: the length of the bucket; `full`: a day on which no further type gets a name",
    ),
    Column("bucket", _TIME, nullable=False, comment="the start of the hour or day"),
    Column(
        "event_type",
        String(50),
        nullable=False,
        comment="the type that is counted; empty: all types without a name on that day",
    ),
    Column("severity", String(20), nullable=False, comment="the severity that is counted"),
    Column("n", BigInteger, nullable=False, comment="the number of events"),
    _primary_key(
        *("grain", "bucket", "event_type", "severity"),
        name="event_counts_pkey",
        use="statistics, histograms, facets",
    ),
    comment="The folded counts.",
    postgresql_with={"fillfactor": 70},
)

search_blocks: Final = Table(
    "search_blocks",
    metadata,
    Column("first_id", BigInteger, nullable=False, comment="the lowest id of the block"),
    Column("last_id", BigInteger, nullable=False, comment="the highest id of the block"),
    Column("min_ts", _TIME, nullable=False, comment="the earliest timestamp of the block"),
    Column("max_ts", _TIME, nullable=False, comment="the latest timestamp of the block"),
    Column("words", ARRAY(Integer), nullable=False, comment="24-bit hashes of the words (`word_hashes`); -1: any word"),
    _index("idx_search_blocks_max_ts", "max_ts", "last_id", use="reading blocks from the newest down"),
    _index("idx_search_blocks_words", "words", use="finding the blocks that can match", postgresql_using="gin"),
    comment="The search index: which words occur in which events. A block covers up to about 256 adjacent events.",
)

search_progress: Final = Table(
    "search_progress",
    metadata,
    Column("xid", BigInteger, nullable=False, comment="the transaction up to which new events are indexed"),
    Column("id", BigInteger, nullable=False, comment="the event in that transaction"),
    Column(
        "older_ts",
        _TIME,
        comment="events that are older than the index: indexed from this timestamp on; null: all are indexed",
    ),
    Column("older_id", BigInteger, comment="the id at that timestamp"),
    comment="One row: the progress of the search index.",
)

epochs: Final = Table(
    "epochs",
    metadata,
    Column(
        "epoch",
        BigInteger,
        nullable=False,
        autoincrement=False,
        comment="the number of the epoch: the time at which it began, in milliseconds since 1970; 0 is the epoch of a "
        "database that was older than this table",
    ),
    Column("identifier", BigInteger, nullable=False, comment="the system identifier of the server"),
    Column("timeline", BigInteger, nullable=False, comment="its timeline, which every promotion increments"),
    Column(
        "database_oid",
        BigInteger,
        nullable=False,
        comment="the oid of the database: one that is restored in the same server has another",
    ),
    Column("started_at", _TIME, nullable=False, comment="when the server was started: a copy of its files is, too"),
    Column("first_xid", BigInteger, nullable=False, comment="batches of the epoch have transaction ids from here on"),
    Column(
        "keeps_order",
        Boolean,
        nullable=False,
        server_default=text("true"),
        comment="whether positions of earlier epochs below `first_xid` are still valid; false after a restore that "
        "renumbered the batches",
    ),
    Column("at", _TIME, nullable=False, server_default=func.now(), comment="when a collector first noticed it"),
    Column(
        "forgotten_xid",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="the position up to which rows of `batches` were deleted: the transaction",
    ),
    Column(
        "forgotten_id",
        BigInteger,
        nullable=False,
        server_default=text("0"),
        comment="the id of the last event up to that position",
    ),
    Column("forgotten_until", _TIME, comment="the latest timestamp of the events of the deleted rows"),
    Column(
        "is_announced",
        Boolean,
        nullable=False,
        server_default=text("false"),
        comment="whether a collector has recorded the own event `database_failed_over`; true after a restart",
    ),
    _primary_key("epoch", name="epochs_pkey"),
    comment="The epochs of the commit order. A row is added when the database is another one than before, after a "
    "failover or a restore, or may be, after a restart: the positions of streams carry the epoch.",
)

_rejection_ids: Final = Sequence("rejected_lines_id_seq", data_type=BigInteger, metadata=metadata)

rejected_lines: Final = Table(
    "rejected_lines",
    metadata,
    Column(
        "id",
        BigInteger,
        nullable=False,
        server_default=_rejection_ids.next_value(),
        comment="the number of the rejected line",
    ),
    Column("received_at", _TIME, nullable=False, comment="when it was received"),
    Column("caller", Text, comment="`key:<prefix>`, `bootstrap` or `open`"),
    Column("batch_key", Uuid, comment="the idempotency key of the request; null if it had none"),
    Column("line_index", Integer, comment="the index in the batch, from 0; null if the event was sent alone"),
    Column("code", String(50), nullable=False, comment="the reason as a code"),
    Column("detail", Text, nullable=False, comment="the reason as a sentence"),
    Column("line", LargeBinary, nullable=False, comment="the line as it was sent, cut to `MAX_REJECTED_LINE_BYTES`"),
    Column("line_bytes", Integer, nullable=False, comment="its full length in bytes"),
    _primary_key("id", name="rejected_lines_pkey"),
    _index("idx_rejected_lines_received_at", "received_at", "id", use="lists, and deletion of old rows"),
    comment="Rejected lines, as they were sent. Bounded by `MAX_REJECTED_LINES`, `MAX_REJECTED_BYTES` and "
    "`REJECTED_LIFE_DAYS`.",
)

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False, comment="the number of the API key"),
    Column("name", String(100), nullable=False, comment="a name for people"),
    Column(
        "prefix",
        String(16),
        nullable=False,
        comment="the beginning of its secret, which identifies it in logs and lists",
    ),
    Column("sha256", LargeBinary, nullable=False, comment="the SHA-256 of its secret"),
    Column("scopes", ARRAY(Text), nullable=False, comment="its permissions: `ingest`, `read`, `write`, `admin`"),
    Column("created_at", _TIME, nullable=False, server_default=func.now(), comment="when it was created"),
    Column("expires_at", _TIME, comment="when it expires; null: never"),
    Column("revoked_at", _TIME, comment="when it was revoked"),
    Column("last_used_at", _TIME, comment="when it was last used, accurate to one minute"),
    _primary_key("id", name="api_keys_pkey"),
    UniqueConstraint("prefix", name="api_keys_prefix_key"),
    CheckConstraint("length(sha256) = 32", name="api_keys_sha256_check"),
    comment="The API keys. Their secrets are not stored. Revoked and expired API keys remain.",
)

sessions: Final = Table(
    "sessions",
    metadata,
    Column("sha256", LargeBinary, nullable=False, comment="the SHA-256 of its token (and of the bootstrap key)"),
    Column("api_key_id", BigInteger, nullable=False, comment="the API key that it stands for; 0: the bootstrap key"),
    Column("scheme", Text, nullable=False, comment="`http` or `https`: of the page that began it; empty: unknown"),
    Column("began_at", _TIME, nullable=False, comment="when it began"),
    _primary_key("sha256", name="sessions_pkey"),
    CheckConstraint("length(sha256) = 32", name="sessions_sha256_check"),
    comment="The browser sessions. Their tokens are not stored. A row is deleted when the user logs out; others, after "
    "`SESSION_LIFE_DAYS`.",
)

hash_keys: Final = Table(
    "hash_keys",
    metadata,
    Column("name", Text, nullable=False, comment="`requests`: for `batches.request_hash`"),
    Column("value", LargeBinary, nullable=False, comment="256 random bits"),
    _primary_key("name", name="hash_keys_pkey"),
    CheckConstraint("length(value) = 32", name="hash_keys_value_check"),
    comment="The secret keys of keyed hashes, which all collectors share. If a row is deleted, a collector creates "
    "another, and batches that were stored before are not recognized under another API key.",
)

jobs: Final = Table(
    "jobs",
    metadata,
    Column(
        "name",
        Text,
        nullable=False,
        comment="`fold` (counts), `maintain` (partitions, old rows), `index` (search), `monitor` (written to check "
        "that the database accepts writes)",
    ),
    Column(
        "done_at",
        _TIME,
        nullable=False,
        server_default=func.now(),
        comment="when any collector last finished the job",
    ),
    _primary_key("name", name="jobs_pkey"),
    comment="One row per background job. The collector that locks the row does the work; the others skip it.",
)
