"""`GET /api/events/histogram` and `/facets`: counts of events over time, and by the values of their fields."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, PATH, Operation, Parameter, ResponseSpec
from brain_collector.api.parameters import FILTER_PARAMETERS, RANGE_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.counts.buckets import By
from brain_collector.counts.leading import Value
from brain_collector.counts.tally import FieldCounts
from brain_collector.errors import ParameterInvalid
from brain_collector.http.answer_budget import reserve
from brain_collector.query.filter import Filter
from brain_collector.read import histogram
from brain_collector.schema import Facet, Facets, FacetValue, Histogram, Rest, Series
from brain_events.wire import SEVERITIES

DEFAULT_SPAN: Final = timedelta(hours=24)
DEFAULT_VALUES: Final = 10
MAX_SERIES: Final = 50
MAX_VALUES: Final = 100
AUTO_BUCKETS: Final = 120
"""Maximum number of buckets if `step` is `auto`."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MAX_STEP_S: Final = 366 * 86_400
_STEP: Final = re.compile(r"([0-9]{1,8})([smhd])", re.ASCII)
_AUTO_STEPS_S: Final = (
    1,
    5,
    10,
    30,
    60,
    300,
    600,
    1_800,
    3_600,
    10_800,
    21_600,
    43_200,
    86_400,
    7 * 86_400,
    30 * 86_400,
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MIN_START_S: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


async def get_histogram(request: Request) -> Response:
    """Return counts per bucket of time."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _HISTOGRAM_PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    filter, since, until = _with_range(parameters.event_filter(request, resources.settings))
    by: By = parameters.choice(request, "by", By, default="severity")
    by_limit = parameters.whole_number(request, "by_limit", default=DEFAULT_VALUES, minimum=1, maximum=MAX_SERIES)
    step_s = _step_s(request, until - since)
    starts = _starts(since, until, step_s, resources.settings.max_histogram_buckets)
    await reserve(request, histogram.max_bytes(histogram.max_values(by, len(starts)), len(starts)))
    counted = await histogram.histogram(resources.store, filter, step_s=step_s, by=by, n_buckets=len(starts))
    counts = counted.fields["value"]
    totals = _totals(counts)
    series = {value: _in_buckets(counts.listed[value], starts) for value in _in_order(totals, by)[:by_limit]}
    others = counts.rest.copy()
    for value in counts.listed.keys() - series.keys():
        others.update(counts.listed[value])
    result = Histogram(
        since=since,
        until=until,
        step_s=step_s,
        starts=[_moment(start) for start in starts],
        series=[Series(value, counts, totals[value]) for value, counts in series.items()],
        other=Rest(_in_buckets(others, starts), others.total()),
        total=counts.total,
        counted_from=counted.since,
        partial=counted.since > since,
    )
    return Response(msgspec.json.encode(result), media_type=JSON)


async def facets(request: Request) -> Response:
    """Return counts per value."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _FACETS_PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    filter, since, until = _with_range(parameters.event_filter(request, resources.settings))
    limit = parameters.whole_number(request, "limit", default=DEFAULT_VALUES, minimum=1, maximum=MAX_VALUES)
    await reserve(request, 3 * histogram.max_bytes(histogram.MAX_VALUES))
    counted = await histogram.values(resources.store, filter)
    is_partial = counted.since > since
    kept = await histogram.kept_values(resources.store, filter)
    kinds, is_kind_partial = (counted.fields, is_partial) if kept is None else (kept.fields, False)
    result = Facets(
        since=since,
        until=until,
        total=kinds["severity"].total,
        fields={
            "severity": _facet(kinds["severity"], "severity", limit, partial=is_kind_partial),
            "event_type": _facet(kinds["event_type"], "event_type", limit, partial=is_kind_partial),
            "source": _facet(counted.fields["source"], "source", limit, partial=is_partial),
        },
        counted_from=counted.since,
        partial=is_partial,
    )
    return Response(msgspec.json.encode(result), media_type=JSON)


def _facet(counts: FieldCounts, by: By, limit: int, *, partial: bool) -> Facet:
    totals = _totals(counts)
    values = [FacetValue(value, totals[value]) for value in _in_order(totals, by)[:limit]]
    return Facet(values, counts.total - sum(value.n for value in values), partial)


def _totals(counts: FieldCounts) -> Counter[Value]:
    return Counter({value: each.total() for value, each in counts.listed.items()})


def _in_buckets(counts: Counter[int], starts: range) -> list[int]:
    return [counts[start] for start in starts]


def _in_order(totals: Counter[Value], by: By) -> list[Value]:
    """Return the values, most frequent first; severities from the highest to the lowest."""
    if by == "severity":
        return [severity for severity in reversed(SEVERITIES) if severity in totals]
    return sorted(totals, key=lambda value: (-totals[value], value is None, value))


def _with_range(filter: Filter) -> tuple[Filter, datetime, datetime]:
    """Return the filter with both ends of its time range: by default, the last 24 hours."""
    until = filter.until or max(datetime.now(UTC), filter.since or _EPOCH)
    earliest = datetime.min.replace(tzinfo=UTC) + DEFAULT_SPAN
    since = filter.since or max(until, earliest) - DEFAULT_SPAN
    return msgspec.structs.replace(filter, since=since, until=until), since, until


def _step_s(request: Request, span: timedelta) -> int:
    """Return the length of a bucket in seconds."""
    text = request.query_params.get("step", "auto")
    if text == "auto":
        years = span // (AUTO_BUCKETS * timedelta(seconds=_MAX_STEP_S)) + 1
        return next(
            step for step in (*_AUTO_STEPS_S, years * _MAX_STEP_S) if span <= AUTO_BUCKETS * timedelta(seconds=step)
        )
    match = _STEP.fullmatch(text)
    step_s = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= step_s <= _MAX_STEP_S:
        raise ParameterInvalid(
            f"step is {text[:30]!r}, must be `auto`, or a length such as 30s, 5m, 1h or 1d, up to 366d"
        )
    return step_s


def _starts(since: datetime, until: datetime, step_s: int, max_buckets: int) -> range:
    """Return the start of each bucket in seconds since the Unix epoch: the multiples of the step."""
    second = timedelta(seconds=1)
    first, end = (since - _EPOCH) // second // step_s * step_s, -((_EPOCH - until) // second)
    starts = range(first, end if until > since else first, step_s)
    if len(starts) > max_buckets:
        raise ParameterInvalid(
            f"step results in {len(starts):,} buckets, the maximum is {max_buckets:,} "
            "(BRAIN_COLLECTOR_MAX_HISTOGRAM_BUCKETS); use a larger step, or a shorter time range"
        )
    return starts


def _moment(start: int) -> datetime:
    return _EPOCH + timedelta(seconds=max(start, _MIN_START_S))


_HISTOGRAM_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    *RANGE_PARAMETERS,
    Parameter(
        name="step",
        type=Annotated[str, Meta(pattern=r"^(auto|[0-9]{1,8}[smhd])$")],
        description="Length of a bucket, such as 30s, 5m, 1h or 1d. `auto`, the default, results in at most "
        f"{AUTO_BUCKETS} buckets.",
    ),
    Parameter(name="by", type=By, description="The field that splits each bucket into series; `severity` by default."),
    Parameter(
        name="by_limit",
        type=Annotated[int, Meta(ge=1, le=MAX_SERIES)],
        description=f"Maximum number of series, {DEFAULT_VALUES} by default; the other values are added up.",
    ),
)
_FACETS_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    *RANGE_PARAMETERS,
    Parameter(
        name="limit",
        type=Annotated[int, Meta(ge=1, le=MAX_VALUES)],
        description=f"Maximum number of values per field, {DEFAULT_VALUES} by default; the other values are added up.",
    ),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/histogram",
        endpoint=get_histogram,
        summary="Count events over time",
        description="By default, of the last 24 hours. Buckets begin at multiples of the step since 1970, in UTC. "
        "With a step of whole hours, a filter of types, severities and times only, and `by` other than `source`, the "
        "counts are read from kept counts and are complete. Otherwise the events are counted, newest first, within a "
        "time limit; if it is reached, `partial` is true, and only events from `counted_from` on are counted.",
        tag="events",
        scope="read",
        parameters=_HISTOGRAM_PARAMETERS,
        responses={200: ResponseSpec(description="The counts.", type=Histogram)},
        errors=(422,),
    ),
    Operation(
        method="GET",
        path=f"{PATH}/facets",
        endpoint=facets,
        summary="Count events by value",
        description="The most frequent types, severities and sources, by default of the last 24 hours. Events are "
        "counted in the same way as for the histogram.",
        tag="events",
        scope="read",
        parameters=_FACETS_PARAMETERS,
        responses={200: ResponseSpec(description="The most frequent values.", type=Facets)},
        errors=(422,),
    ),
)
