"""Where events are, and what they are: a histogram over time, and the values of their fields."""

import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from brain_collector.api import parameters
from brain_collector.api.operation import JSON, PATH, Answer, Operation, Parameter
from brain_collector.api.parameters import FILTER_PARAMETERS, RANGE_PARAMETERS
from brain_collector.api.resources import resources_of
from brain_collector.counts.buckets import By
from brain_collector.errors import ParameterInvalid
from brain_collector.query.filter import Filter
from brain_collector.read import histogram
from brain_collector.schema import Facet, Facets, FacetValue, Histogram, Rest, Series
from brain_events.wire import SEVERITIES

DEFAULT_SPAN: Final = timedelta(hours=24)
DEFAULT_VALUES: Final = 10
MOST_SERIES: Final = 50
MOST_VALUES: Final = 100
AUTO_BUCKETS: Final = 120
"""Most buckets of a step that is `auto`."""
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_MOST_STEP_S: Final = 366 * 86_400
_STEP: Final = re.compile(r"([0-9]{1,8})([smhd])", re.ASCII)
_NICE_S: Final = (1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 7 * 86_400, 30 * 86_400)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_S: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


async def get_histogram(request: Request) -> Response:
    """Count by buckets of time."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _HISTOGRAM_PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    wanted, since, until = _within(parameters.event_filter(request, resources.settings))
    by: By = parameters.choice(request, "by", By, default="severity")
    most = parameters.whole_number(request, "by_limit", default=DEFAULT_VALUES, least=1, most=MOST_SERIES)
    step_s = _step(request, until - since)
    starts = _starts(since, until, step_s, resources.settings.max_histogram_buckets)
    counted = await histogram.histogram(resources.store, wanted, step_s=step_s, by=by)

    place = {start: index for index, start in enumerate(starts)}
    totals = Counter[str | None]()
    for (_, value), n in counted.groups.items():
        totals[value] += n
    shown = {value: [0] * len(starts) for value in _in_order(totals, by)[:most]}
    rest = [0] * len(starts)
    for (start, value), n in counted.groups.items():
        shown.get(value, rest)[place[start]] += n
    found = Histogram(
        since=since,
        until=until,
        step_s=step_s,
        starts=[_moment(start) for start in starts],
        series=[Series(value, counts, totals[value]) for value, counts in shown.items()],
        other=Rest(rest, sum(rest)),
        total=totals.total(),
        counted_from=counted.since,
        partial=counted.since > since,
    )
    return Response(msgspec.json.encode(found), media_type=JSON)


async def facets(request: Request) -> Response:
    """Count by value."""
    resources = resources_of(request)
    parameters.refuse_unknown(request, _FACETS_PARAMETERS, prefix=parameters.DETAILS, repeatable=["event_type"])
    wanted, since, until = _within(parameters.event_filter(request, resources.settings))
    most = parameters.whole_number(request, "limit", default=DEFAULT_VALUES, least=1, most=MOST_VALUES)
    kept, counted = await histogram.values(resources.store, wanted)
    kinds, partial = (counted.groups, counted.since > since) if kept is None else (kept, False)
    found = Facets(
        since=since,
        until=until,
        total=kinds.total(),
        fields={
            "severity": _facet(kinds, 1, "severity", most, partial=partial),
            "event_type": _facet(kinds, 0, "event_type", most, partial=partial),
            "source": _facet(counted.groups, 2, "source", most, partial=counted.since > since),
        },
        counted_from=counted.since,
        partial=counted.since > since,
    )
    return Response(msgspec.json.encode(found), media_type=JSON)


def _facet(groups: Counter[tuple[Any, ...]], column: int, by: By, most: int, *, partial: bool) -> Facet:
    totals = Counter[str | None]()
    for group, n in groups.items():
        totals[group[column]] += n
    values = [FacetValue(value, totals[value]) for value in _in_order(totals, by)[:most]]
    return Facet(values, totals.total() - sum(each.n for each in values), partial)


def _in_order(totals: Counter[str | None], by: By) -> list[str | None]:
    """Return the values, the most frequent first; severities from the highest down."""
    if by == "severity":
        return [severity for severity in reversed(SEVERITIES) if severity in totals]
    return sorted(totals, key=lambda value: (-totals[value], value is None, value))


def _within(wanted: Filter) -> tuple[Filter, datetime, datetime]:
    """Give the filter both ends: until now, and a day of it."""
    until = wanted.until or max(datetime.now(UTC), wanted.since or _EPOCH)
    least = datetime.min.replace(tzinfo=UTC) + DEFAULT_SPAN
    since = wanted.since or max(until, least) - DEFAULT_SPAN
    return msgspec.structs.replace(wanted, since=since, until=until), since, until


def _step(request: Request, span: timedelta) -> int:
    """Return the seconds of a bucket."""
    given = request.query_params.get("step", "auto")
    if given == "auto":
        years = span // (AUTO_BUCKETS * timedelta(seconds=_MOST_STEP_S)) + 1
        return next(step for step in (*_NICE_S, years * _MOST_STEP_S) if span <= AUTO_BUCKETS * timedelta(seconds=step))
    found = _STEP.fullmatch(given)
    step_s = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 1 <= step_s <= _MOST_STEP_S:
        raise ParameterInvalid(f"step is {given[:30]!r}, must be `auto`, or as 30s, 5m, 1h, 1d: 366d at most")
    return step_s


def _starts(since: datetime, until: datetime, step_s: int, most: int) -> range:
    """Return where the buckets begin, in seconds of the Unix epoch: at multiples of the step."""
    second = timedelta(seconds=1)
    first, end = (since - _EPOCH) // second // step_s * step_s, -((_EPOCH - until) // second)
    starts = range(first, end if until > since else first, step_s)
    if len(starts) > most:
        raise ParameterInvalid(
            f"step makes {len(starts):,} buckets, at most {most:,} (BRAIN_COLLECTOR_MAX_HISTOGRAM_BUCKETS); "
            "take a larger one, or a shorter time range"
        )
    return starts


def _moment(start: int) -> datetime:
    return _EPOCH + timedelta(seconds=max(start, _FIRST_S))


def _names(parameters: tuple[Parameter, ...]) -> list[str]:
    return [parameter.name for parameter in parameters]


_HISTOGRAM_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    *RANGE_PARAMETERS,
    Parameter(
        name="step",
        type=Annotated[str, Meta(pattern=r"^(auto|[0-9]{1,8}[smhd])$")],
        description=f"Length of a bucket, as 30s, 5m, 1h, 1d; `auto`, the default, makes {AUTO_BUCKETS} at most.",
    ),
    Parameter(name="by", type=By, description="What each bucket is split by: `severity`, unless told."),
    Parameter(
        name="by_limit",
        type=Annotated[int, Meta(ge=1, le=MOST_SERIES)],
        description=f"Maximum number of values counted separately ({DEFAULT_VALUES} by default); others are added up.",
    ),
)
_FACETS_PARAMETERS: Final = (
    *FILTER_PARAMETERS,
    *RANGE_PARAMETERS,
    Parameter(
        name="limit",
        type=Annotated[int, Meta(ge=1, le=MOST_VALUES)],
        description=f"Most values of each field, {DEFAULT_VALUES} unless told; the others are added up.",
    ),
)

OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"{PATH}/histogram",
        endpoint=get_histogram,
        summary="Count events over time",
        description="The last 24 hours, unless told. Buckets begin at multiples of the step since 1970, in UTC. "
        "Hours and days of types and severities come from the kept counts; of all else the events are counted, "
        "newest first, for as long as the time lasts: `partial` says that it ended, at `counted_from`.",
        tag="events",
        scope="read",
        parameters=_HISTOGRAM_PARAMETERS,
        answers={200: Answer(description="The counts.", type=Histogram)},
        errors=(422,),
    ),
    Operation(
        method="GET",
        path=f"{PATH}/facets",
        endpoint=facets,
        summary="Count events by value",
        description="The most frequent types, severities and sources of the last 24 hours, unless told; counted as "
        "the histogram is.",
        tag="events",
        scope="read",
        parameters=_FACETS_PARAMETERS,
        answers={200: Answer(description="The values.", type=Facets)},
        errors=(422,),
    ),
)
