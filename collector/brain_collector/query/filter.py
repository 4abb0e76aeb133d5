"""Filters, and the only code that turns them into SQL: for lists, counts and everything else that reads events."""

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
    all_,
    any_,
    bindparam,
    cast,
    exists,
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
"""The severities in the partial index on severity."""
NO_SEVERITY: Final = ("",)
"""The severities of a filter that no event matches; without any, the filter would match all."""

_events: Final = system_events.c

# Other signs beyond ASCII are letters in some locales only, and the lower case of a sigma depends on its neighbours.
_WORD_IN_EVERY_LOCALE: Final = re.compile(r"[^\W_Σσς]+")


class DetailsMatch(msgspec.Struct, frozen=True, array_like=True):
    """A value at a path into the details, compared as text: 42 matches the number and the string."""

    path: tuple[str, ...]
    text: str


class Filter(msgspec.Struct, frozen=True, omit_defaults=True):
    """A filter of events. All of its fields must match; of several values of one field, one must match.

    The time range includes `since` and excludes `until`.
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
    """Return the severities from this one up; an empty tuple, which filters nothing, for the lowest."""
    index = SEVERITIES.index(severity)
    return tuple(SEVERITIES[index:]) if index else ()


def newest_first(filter: Filter, *, limit: int, offset: int = 0, after: Position | None = None) -> Select[Any]:
    """Return the query for up to `limit` events, newest first, after `offset` events or after a position."""
    if filter.ids:  # look them up by id before sorting: a scan in the order of timestamps would find them late
        query = select(matching(filter, after).cte("named").prefix_with("MATERIALIZED"))
    elif len(legs := _legs(filter)) > 1:  # each scans its index in order and stops early; the sorted legs are merged
        newest = [in_order(matching(leg, after)).limit(limit + offset) for leg in legs]
        query = select(union_all(*newest).subquery("legs"))
    else:
        query = matching(filter, after)
    return in_order(query).limit(limit).offset(offset)


def conditions(filter: Filter) -> list[ColumnElement[bool]]:
    """Return the conditions that the filter's events satisfy."""
    result = kinds(filter, _events)
    if filter.source is not None:
        result.append(_events.source == filter.source)
    if filter.ids:
        result.append(_events.id == any_(bindparam(None, list(filter.ids), type_=ARRAY(BigInteger))))
    result += map(_matches, filter.details)
    if filter.since is not None:
        result.append(_events.timestamp >= filter.since)
    if filter.until is not None:
        result.append(_events.timestamp < filter.until)
    if filter.words is not None:
        result += _have_words(filter.words)
    return result


def kinds(filter: Filter, columns: Any) -> list[ColumnElement[bool]]:
    """Return the conditions on type and severity, for any table with these columns."""
    result: list[ColumnElement[bool]] = []
    if len(filter.event_types) == 1:
        result.append(columns.event_type == filter.event_types[0])
    elif filter.event_types:
        result.append(columns.event_type == any_(bindparam(None, list(filter.event_types), type_=ARRAY(Text))))
    if filter.severities:
        # As literals, of which there are four: a generic plan could not use the partial index on severity.
        names: Any = bindparam("severities", filter.severities, unique=True, expanding=True, literal_execute=True)
        result.append(columns.severity.in_(names))
    return result


def _matches(match: DetailsMatch) -> ColumnElement[bool]:
    """Compare the text at the path. A JSON null has no text in Postgres; here its text is `null`."""
    path = bindparam(None, list(match.path), type_=ARRAY(Text))
    same = _events.details.op("#>>", return_type=Text())(path) == match.text
    if match.text != "null":
        return same
    return or_(same, _events.details.op("#>", return_type=JSONB())(path) == literal_column("'null'::jsonb"))


def _have_words(words: Words) -> list[ColumnElement[bool]]:
    """Compare text with ILIKE before the exact search: it costs a twentieth and excludes no match."""
    columns = _events.event_type, _events.message, _events.source, _events.details
    tsquery = func.websearch_to_tsquery(literal_column("'simple'"), words.query)
    exact = func.event_words(*columns).op("@@", return_type=Boolean())(tsquery)
    if not all(words.required):
        return [exact]
    texts = func.concat_ws(" ", *columns[:-1], cast(_events.details, Text))
    return [_may_have(texts, words.required), exact]


def _may_have(texts: ColumnElement[str], groups: tuple[tuple[Term, ...], ...]) -> ColumnElement[bool]:
    """Return the condition that the texts of an event have every pattern of a group.

    The texts are made once for each event, not once for each term: ALL evaluates its left side once, and OFFSET 0 keeps
    the subquery from being replaced by its expression. They are not cut, so that no match is missed.
    """
    if len(groups) == 1:
        return _has_all(texts, groups[0])
    made = select(texts.label("texts")).correlate(system_events).offset(literal_column("0")).subquery("made")
    return exists().where(or_(*(_has_all(made.c.texts, group) for group in groups)))


def _has_all(texts: ColumnElement[str], group: tuple[Term, ...]) -> ColumnElement[bool]:
    patterns = bindparam(None, list(map(_pattern, group)), type_=ARRAY(Text))
    return texts.op("ILIKE", return_type=Boolean())(all_(patterns))


def _pattern(term: Term) -> str:
    """Return the pattern of the longest part of the term that is one word in every locale; it has no other wildcard."""
    parts = [part for word in term.words for part in _WORD_IN_EVERY_LOCALE.findall(word)]
    return f"%{max(parts, key=len, default='')}%"


def _legs(filter: Filter) -> list[Filter]:
    """Split a filter into ones that can each scan an index in order; no event matches two of them."""
    if len(filter.event_types) > 1:
        return [msgspec.structs.replace(filter, event_types=(each,)) for each in filter.event_types]
    if not filter.event_types and URGENT.issuperset(filter.severities):
        return [msgspec.structs.replace(filter, severities=(each,)) for each in filter.severities]
    return [filter]


def matching(filter: Filter, after: Position | None) -> Select[Any]:
    """Return the query for the filter's events after a position, in no particular order."""
    query = select(system_events).where(*conditions(filter))
    if after is None:
        return query
    edge = tuple_(bindparam(None, after.timestamp, _events.timestamp.type), bindparam(None, after.id, BigInteger()))
    return query.where(
        _events.timestamp <= after.timestamp,  # the row comparison alone does not prune partitions
        tuple_(_events.timestamp, _events.id) < edge,
    )


def in_order(query: Select[Any]) -> Select[Any]:
    """Return the query with the newest events first."""
    columns = query.selected_columns
    return query.order_by(columns.timestamp.desc(), columns.id.desc())
