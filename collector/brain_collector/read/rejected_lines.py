"""Lists and deletes rejected lines, by a filter."""

from datetime import datetime
from typing import Any, Final

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


async def page(
    store: Store, filter: RejectionFilter, *, limit: int, max_bytes: int, after: Position | None
) -> list[Any]:
    """Return the rows of the newest rejected lines after a position: at most `limit`.

    They end at the one that exceeds `max_bytes`, so that there is a next page if and only if they do not fit.
    """
    newest = _columns.received_at.desc(), _columns.id.desc()
    query = select(rejected_lines).where(*_conditions(filter)).order_by(*newest).limit(limit)
    if after is not None:
        query = query.where(tuple_(_columns.received_at, _columns.id) < (after.timestamp, after.id))
    lines = query.subquery("lines")
    size = func.octet_length(lines.c.line) + func.octet_length(lines.c.detail)
    before = func.sum(size).over(order_by=(lines.c.received_at.desc(), lines.c.id.desc()), rows=(None, -1))
    summed = select(lines, func.coalesce(before, 0).label("bytes_before")).subquery("summed").c
    shown = select(*(summed[column.name] for column in _columns)).where(summed.bytes_before <= max_bytes)
    return await store.fetch(shown.order_by(summed.received_at.desc(), summed.id.desc()))


def position_of(row: Any) -> Position:
    """Return the position of a row."""
    return Position(row.received_at, row.id)


def rejection(row: Any) -> Rejection:
    """Return the rejected line of a row."""
    return _rejection(*row)


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
