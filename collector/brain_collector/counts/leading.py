"""The most frequent values of fields, and the rest, from counts by group. Postgres adds up and returns few rows."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    Select,
    SelectBase,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    or_,
    select,
    union_all,
)

Value = str | None
"""The value of a field; None: the event has none."""

NOTHING_KNOWN: Final[Mapping[str, Collection[Value]]] = {}


def leading(
    groups: Select[Any], fields: Sequence[str], most: int, known: Mapping[str, Collection[Value]] = NOTHING_KNOWN
) -> SelectBase:
    """Return the query for rows of `field`, `is_listed`, `value`, and the arrays `starts` and `numbers`.

    `groups` has rows of `start`, the fields and `n`. The `most` most frequent values of each field are listed, each in
    one row; for a field in `known`, its values there. All other values are added up in one row; its value is null.
    """
    counted = groups.cte("counted").prefix_with("MATERIALIZED")
    return union_all(*(_of_field(counted, field, most, known.get(field)) for field in fields))


def _of_field(counted: CTE, field: str, most: int, known: Collection[Value] | None) -> Select[Any]:
    value, n = counted.c[field], func.sum(counted.c.n)
    each = (
        select(counted.c.start, value.label("value"), n.label("n"), func.sum(n).over(partition_by=value).label("total"))
        .group_by(counted.c.start, value)
        .subquery()
    )
    if known is None:
        is_listed = func.dense_rank().over(order_by=(each.c.total.desc(), each.c.value)) <= most
    else:
        is_listed = _is_among(each.c.value, known)
    ranked = select(each.c.start, each.c.value, each.c.n, is_listed.label("is_listed")).subquery()
    shown = case((ranked.c.is_listed, ranked.c.value))
    summed = (
        select(
            ranked.c.is_listed,
            ranked.c.start,
            shown.label("value"),
            cast(func.sum(ranked.c.n), BigInteger).label("n"),
        )
        .group_by(ranked.c.is_listed, ranked.c.start, shown)
        .subquery()
    )
    return select(
        literal_column(f"'{field}'").label("field"),
        summed.c.is_listed,
        summed.c.value,
        func.array_agg(summed.c.start).label("starts"),
        func.array_agg(summed.c.n).label("numbers"),
    ).group_by(summed.c.is_listed, summed.c.value)


def _is_among(value: ColumnElement[Any], known: Collection[Value]) -> ColumnElement[bool]:
    names = bindparam(None, [name for name in known if name is not None], type_=ARRAY(Text))
    is_named = func.coalesce(value == any_(names), literal_column("false"))
    return or_(is_named, value.is_(None)) if None in known else is_named
