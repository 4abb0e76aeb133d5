"""The simplest alternative, for comparison: one INSERT per POST, with asyncpg or with SQLAlchemy's ORM.

Two applications, `plain` and `orm`; BENCH_DSN is the address of their database.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import msgspec
from sqlalchemy import BigInteger, DateTime, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

DSN = os.environ["BENCH_DSN"]
CONNECTIONS = 16
INSERT = """
    INSERT INTO system_events (event_type, severity, message, details, source, "timestamp")
    VALUES ($1, $2, $3, $4, $5, $6)
    RETURNING id, event_type, severity, message, details, source, "timestamp", created_at
"""


class NewEvent(msgspec.Struct):
    event_type: str
    severity: str
    message: str
    details: dict[str, Any] | None = None
    source: str | None = None
    timestamp: datetime | None = None


DECODE = msgspec.json.Decoder(NewEvent).decode
ENCODE = msgspec.json.encode


@asynccontextmanager
async def pool(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
    async with asyncpg.create_pool(DSN, min_size=CONNECTIONS, max_size=CONNECTIONS) as connections:
        yield {"pool": connections}


async def create_plain(request: Request) -> Response:
    new = DECODE(await request.body())
    moment = new.timestamp or datetime.now(UTC)
    details = None if new.details is None else ENCODE(new.details).decode()
    row = await request.state.pool.fetchrow(
        INSERT, new.event_type, new.severity, new.message, details, new.source, moment
    )
    stored = dict(row) | {"details": new.details}
    return Response(ENCODE(stored), status_code=201, media_type="application/json")


plain = Starlette(routes=[Route("/api/events", create_plain, methods=["POST"])], lifespan=pool)


class Base(DeclarativeBase): ...


class SystemEvent(Base):
    __tablename__ = "system_events"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event_type: Mapped[str]
    severity: Mapped[str]
    message: Mapped[str]
    details: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    source: Mapped[str | None]
    timestamp: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


engine = create_async_engine(DSN.replace("postgresql://", "postgresql+asyncpg://"), pool_size=CONNECTIONS)
new_session = async_sessionmaker(engine, expire_on_commit=False)


async def create_by_orm(request: Request) -> Response:
    new = await request.json()
    moment = datetime.fromisoformat(new.pop("timestamp")) if "timestamp" in new else datetime.now(UTC)
    async with new_session() as session:
        event = SystemEvent(**new, timestamp=moment)
        session.add(event)
        await session.commit()
        await session.refresh(event)
    columns = SystemEvent.__table__.columns.keys()
    stored = {name: getattr(event, name) for name in columns}
    stored |= {name: stored[name].isoformat() for name in ("timestamp", "created_at")}
    return JSONResponse(stored, status_code=201)


orm = Starlette(routes=[Route("/api/events", create_by_orm, methods=["POST"])])
