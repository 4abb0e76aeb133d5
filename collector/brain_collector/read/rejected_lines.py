"""Lists and deletes rejected lines, by a filter."""

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from brain_collector.query.cursor import Position
from brain_collector.read.store import Store
from brain_collector.schema import Rejection
from brain_collector.storage.tables import rejected_lines

_columns: Final = rejected_lines.c


class RejectionFilter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A filter of rejected lines. The time range includes `since` and excludes `until`."""

    code: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def page(store: Store, filter: RejectionFilter, *, limit: int, after: Position | None) -> list[Rejection]:
    """Return up to `limit` rejected lines, newest first, after a position."""
    query = select(rejected_lines).where(*_conditions(filter))
    if after is not None:
        query = query.where(tuple_(_columns.received_at, _columns.id) < (after.timestamp, after.id))
    query = query.order_by(_columns.received_at.desc(), _columns.id.desc()).limit(limit)
    return [_rejection(*row) for row in await store.fetch(query)]


async def purge(store: Store, filter: RejectionFilter) -> int:
    """Delete the lines that match the filter; return their number."""
    deleted = delete(rejected_lines).where(*_conditions(filter)).returning(_columns.id).cte("deleted")
    (row,) = await store.fetch(select(func.count()).select_from(deleted))
    return int(row[0])


def _conditions(filter: RejectionFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filter.code is not None:
        conditions.append(_columns.code == filter.code)
    if filter.since is not None:
        conditions.append(_columns.received_at >= filter.since)
    if filter.until is not None:
        conditions.append(_columns.received_at < filter.until)
    return conditions


def _rejection(
    number: int,
    received_at: datetime,
    caller: str | None,
    key: object,
    index: int | None,
    code: str,
    detail: str,
    line: bytes,
    line_bytes: int,
) -> Rejection:
    text = line.decode(errors="replace")
    return Rejection(
        id=number,
        received_at=received_at,
        caller=caller,
        idempotency_key=None if key is None else str(key),
        index=index,
        code=code,
        detail=detail,
        line=text,
        line_base64=msgspec.UNSET if text.encode() == line else line,
        line_bytes=line_bytes,
    )
