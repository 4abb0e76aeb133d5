"""The tables that queries are composed from, as they stand; how they came to be is in `migrations/`."""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, String, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

metadata: Final = MetaData()

system_events: Final = Table(
    "system_events",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("event_type", String(50), nullable=False),
    Column("severity", String(20), nullable=False),
    Column("message", Text, nullable=False),
    Column("details", JSONB),
    Column("source", String(100)),
    Column("timestamp", DateTime(timezone=True), primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

event_deltas: Final = Table(
    "event_deltas",
    metadata,
    Column("bucket", DateTime(timezone=True), nullable=False),
    Column("event_type", String(50), nullable=False),
    Column("severity", String(20), nullable=False),
    Column("n", BigInteger, nullable=False),
)

event_counts: Final = Table(
    "event_counts",
    metadata,
    Column("grain", String(4), primary_key=True),
    Column("bucket", DateTime(timezone=True), primary_key=True),
    Column("event_type", String(50), primary_key=True),
    Column("severity", String(20), primary_key=True),
    Column("n", BigInteger, nullable=False),
)

rejected_lines: Final = Table(
    "rejected_lines",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("caller", Text),
    Column("batch_key", Uuid),
    Column("line_index", Integer),
    Column("code", String(50), nullable=False),
    Column("detail", Text, nullable=False),
    Column("line", LargeBinary, nullable=False),
    Column("line_bytes", Integer, nullable=False),
)
