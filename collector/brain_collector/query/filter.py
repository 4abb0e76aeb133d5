"""What reads are narrowed to, and the SQL that says so: one compiler for lists, counts and all that reads events."""

import re
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import ColumnElement

from brain_collector.query.cursor import Position
from brain_collector.query.search_terms import Term, Words
from brain_collector.storage.tables import system_events
from brain_events.wire import SEVERITIES

URGENT: Final = frozenset({"error", "critical"})
"""Those that the partial index on severity holds."""

_events: Final = system_events.c

# A sign beyond ASCII is a letter to some locales only; and how a sigma is lowered depends on what is beside it.
_PIECE: Final = re.compile(r"[^\W_Σσς]+")


class DetailsMatch(msgspec.Struct, frozen=True, array_like=True):
    """The value at a path into the details, as text: 42 is the number and the string."""

    path: tuple[str, ...]
    text: str


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """What reads are narrowed to; everything given must hold, and of several values one.

    The time range is half open: from `since`, to before `until`.
    """

    event_types: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    source: str | None = None
    ids: tuple[int, ...] = ()
    details: tuple[DetailsMatch, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    words: Words | None = None


def at_least(severity: str) -> tuple[str, ...]:
    """Return the severities from this one up; none, which is no filter, for the lowest."""
    place = SEVERITIES.index(severity)
    return tuple(SEVERITIES[place:]) if place else ()


def newest_first(wanted: Filter, *, limit: int, offset: int = 0, after: Position | None = None) -> Select[Any]:
    """Return the query for up to `limit` events, newest first, after `offset` events or after a position."""
    if wanted.ids:  # found by their ids before they are put in order: a walk down the timestamps meets them late
        query = select(matching(wanted, after).cte("named").prefix_with("MATERIALIZED"))
    elif len(legs := _legs(wanted)) > 1:  # each walks its index in order and stops early; the sorted legs are merged
        ends = [in_order(matching(leg, after)).limit(limit + offset) for leg in legs]
        query = select(union_all(*ends).subquery("legs"))
    else:
        query = matching(wanted, after)
    return in_order(query).limit(limit).offset(offset)


def conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    """Return what holds for the events that the filter wants."""
    found = kinds(wanted, _events)
    if wanted.source is not None:
        found.append(_events.source == wanted.source)
    if wanted.ids:
        found.append(_events.id == any_(bindparam(None, list(wanted.ids), type_=ARRAY(BigInteger))))
    found += map(_matches, wanted.details)
    if wanted.since is not None:
        found.append(_events.timestamp >= wanted.since)
    if wanted.until is not None:
        found.append(_events.timestamp < wanted.until)
    if wanted.words is not None:
        found += _have_words(wanted.words)
    return found


def kinds(wanted: Filter, columns: Any) -> list[ColumnElement[bool]]:
    """Return what holds for the type and the severity, in any table that has these columns."""
    found: list[ColumnElement[bool]] = []
    if len(wanted.event_types) == 1:
        found.append(columns.event_type == wanted.event_types[0])
    elif wanted.event_types:
        found.append(columns.event_type == any_(bindparam(None, list(wanted.event_types), type_=ARRAY(Text))))
    if wanted.severities:
        # As literals (they are of four): a generic plan could not use the partial index on severity.
        names: Any = bindparam("severities", wanted.severities, unique=True, expanding=True, literal_execute=True)
        found.append(columns.severity.in_(names))
    return found


def _matches(match: DetailsMatch) -> ColumnElement[bool]:
    """Compare the text at the path, which is bound like any value; a JSON null has no text but `null`."""
    path = bindparam(None, list(match.path), type_=ARRAY(Text))
    same = _events.details.op("#>>", return_type=Text())(path) == match.text
    if match.text != "null":
        return same
    return or_(same, _events.details.op("#>", return_type=JSONB())(path) == literal_column("'null'::jsonb"))


def _have_words(words: Words) -> list[ColumnElement[bool]]:
    """Look for pieces of text first: that is twenty times cheaper, and leaves out nothing that matches."""
    columns = _events.event_type, _events.message, _events.source, _events.details
    query = func.websearch_to_tsquery(literal_column("'simple'"), words.query)
    exact = func.event_words(*columns).op("@@", return_type=Boolean())(query)
    if not all(words.wanted):
        return [exact]
    texts = func.concat_ws(" ", *columns[:-1], cast(_events.details, Text))
    return [or_(*(and_(*(_holds(texts, term) for term in group)) for group in words.wanted)), exact]


def _holds(texts: Any, term: Term) -> ColumnElement[bool]:
    """Look for the longest piece that is one word in every locale; it holds no wildcard."""
    pieces = [piece for word in term.words for piece in _PIECE.findall(word)]
    found: ColumnElement[bool] = texts.ilike(f"%{max(pieces, key=len, default='')}%")
    return found


def _legs(wanted: Filter) -> list[Filter]:
    """Split a filter into ones that each have an index to walk in order; no event is in two of them."""
    if len(wanted.event_types) > 1:
        return [msgspec.structs.replace(wanted, event_types=(each,)) for each in wanted.event_types]
    if not wanted.event_types and URGENT.issuperset(wanted.severities):
        return [msgspec.structs.replace(wanted, severities=(each,)) for each in wanted.severities]
    return [wanted]


def matching(wanted: Filter, after: Position | None) -> Select[Any]:
    """Return the query for the events that the filter wants, after a position, in no order."""
    query = select(system_events).where(*conditions(wanted))
    if after is None:
        return query
    edge = tuple_(bindparam(None, after.timestamp, _events.timestamp.type), bindparam(None, after.id, BigInteger()))
    return query.where(
        _events.timestamp <= after.timestamp,  # the row comparison alone prunes no partition
        tuple_(_events.timestamp, _events.id) < edge,
    )


def in_order(query: Select[Any]) -> Select[Any]:
    """Return a query with the newest events first."""
    columns = query.selected_columns
    return query.order_by(columns.timestamp.desc(), columns.id.desc())
