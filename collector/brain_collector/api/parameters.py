"""Query and path parameters: strings in, checked values out. An unknown or malformed parameter is an error."""

from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, get_args

import msgspec
from msgspec import Meta
from starlette.requests import Request

from brain_collector.api.operation import Parameter
from brain_collector.errors import EventNotFound, FieldError, ParameterInvalid
from brain_collector.query import search_terms
from brain_collector.query.details_path import split_path
from brain_collector.query.filter import NO_SEVERITY, DetailsMatch, Filter, at_least
from brain_collector.schema import Severity
from brain_collector.settings import Settings
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SEVERITIES, SOURCE_MAX_CHARS

MAX_ID: Final = 2**63 - 1
DETAILS: Final = "details."
"""The prefix of a filter by the details; the path follows."""

_STORABLE: Final = r"^[^\x00]*$"
"""Schemas describe values by patterns: since OpenAPI 3.1, `format` is only a comment for many tools."""

KIND_PARAMETERS: Final = (
    Parameter(
        name="event_type",
        type=list[Annotated[str, Meta(max_length=EVENT_TYPE_MAX_CHARS, pattern=_STORABLE)]],
        maximum="max_filter_values",
        description="Only events of this type; repeat the parameter for several types.",
    ),
    Parameter(name="severity", type=Severity, description="Only events of this severity."),
    Parameter(
        name="severity_min",
        type=Severity,
        description="Only events of this severity or a higher one.",
    ),
)
TEXT_PARAMETERS: Final = (
    Parameter(
        name="source",
        type=Annotated[str, Meta(max_length=SOURCE_MAX_CHARS, pattern=_STORABLE)],
        description="Only events of this source.",
    ),
    Parameter(
        name="q",
        type=Annotated[str, Meta(min_length=1, max_length=search_terms.MAX_CHARS, pattern=_STORABLE)],
        description="Only events with these words in their type, message, source or the texts of their details: "
        '`timeout "connection refused" -retry`, `this or that`. Words consist of letters and digits; case is ignored.',
    ),
)
FILTER_PARAMETERS: Final = (*KIND_PARAMETERS, *TEXT_PARAMETERS)
"""The filters of a stream, which has no time range."""

_LEAP_YEAR: Final = "(?:[1-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[13579][26]|[2468][048])00)"
_DATE: Final = (
    "(?:[1-9][0-9]{3}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP_YEAR}-02-29)"
)
_TIME: Final = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])?"
MOMENT_PATTERN: Final = f"{_DATE}T{_TIME}"
"""A timestamp (RFC 3339) of the years 1000 to 9999; without an offset it is in UTC."""
ID_PATTERN: Final = "(?:[1-9][0-9]{0,17}|[1-8][0-9]{18})"
"""The id of an event: at most 8,999,999,999,999,999,999."""

Moment = Annotated[datetime, Meta(extra_json_schema={"pattern": f"^{MOMENT_PATTERN}$"})]

RANGE_PARAMETERS: Final = (
    Parameter(name="from", type=Moment, description="Only events at or after this time (RFC 3339)."),
    Parameter(name="to", type=Moment, description="Only events before this time (RFC 3339)."),
)
STATS_PARAMETERS: Final = (*KIND_PARAMETERS, *RANGE_PARAMETERS)


def refuse_unknown(
    request: Request,
    known: Iterable[Parameter] = (),
    *,
    prefix: str | None = None,
    repeatable: Container[str] = (),
    reason: str = "",
) -> None:
    """Refuse unknown and repeated parameters, so that an ignored filter never looks as if it were applied.

    Args:
        request: The request.
        known: The parameters of the operation.
        prefix: Parameters whose names begin with it are known too.
        repeatable: The names of parameters that may be repeated.
        reason: Follows the name of an unknown parameter in the error.
    """
    if not request.scope["query_string"]:
        return
    names, seen = sorted(parameter.name for parameter in known), set[str]()
    for name, _ in request.query_params.multi_items():
        if name not in names and (prefix is None or not name.startswith(prefix)):
            allowed = names if prefix is None else [*names, f"{prefix}<path>"]
            raise _invalid(name[:80], f"is not a parameter here{reason}; known: {', '.join(allowed) or 'none'}")
        if name in seen and name not in repeatable:
            raise _invalid(name[:80], "is present more than once; send it once")
        seen.add(name)


def event_filter(request: Request, settings: Settings) -> Filter:
    """Return the filter; values whose order has no meaning are sorted, so that equal filters compare equal."""
    since, until = time_range(request)
    return Filter(
        event_types=_event_types(request, settings.max_filter_values),
        severities=_severities(request),
        source=text(request, "source", max_chars=SOURCE_MAX_CHARS),
        ids=_ids(request, settings.max_list_limit),
        details=_details(request, settings),
        since=since,
        until=until,
        words=None if (q := text(request, "q")) is None else search_terms.parse(q),
    )


def time_range(request: Request) -> tuple[datetime | None, datetime | None]:
    """Return `from` and `to`."""
    since, until = moment(request, "from"), moment(request, "to")
    if since and until and since > until:
        raise _invalid("from", f"is {since.isoformat()}, which is after `to`, {until.isoformat()}")
    return since, until


def _event_types(request: Request, maximum: int) -> tuple[str, ...]:
    values = request.query_params.getlist("event_type")
    types = tuple(sorted({_storable("event_type", value, EVENT_TYPE_MAX_CHARS) for value in values}))
    if len(types) > maximum:
        raise _invalid(
            "event_type", f"has {len(types)} values, the maximum is {maximum} (BRAIN_COLLECTOR_MAX_FILTER_VALUES)"
        )
    return types


def _severities(request: Request) -> tuple[str, ...]:
    exact, minimum = (_severity(request, name) for name in ("severity", "severity_min"))
    severities = at_least(minimum) if minimum else ()
    if exact is None:
        return severities
    return (exact,) if not severities or exact in severities else NO_SEVERITY


def _severity(request: Request, name: str) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in SEVERITIES:
        raise _invalid(name, f"is {text[:30]!r}, must be one of {', '.join(SEVERITIES)}")
    return text


def _ids(request: Request, maximum: int) -> tuple[int, ...]:
    text = request.query_params.get("id")
    if text is None:
        return ()
    ids = text.split(",")
    for id in ids:
        if not id.isascii() or not id.isdecimal() or len(id) > len(str(MAX_ID)) or not 0 < int(id) <= MAX_ID:
            raise _invalid("id", f"contains {id[:30]!r}, must be integers from 1 to {MAX_ID}, separated by commas")
    if len(ids) > maximum:
        raise _invalid("id", f"has {len(ids)} values, the maximum is {maximum}; send several requests")
    return tuple(sorted(set(map(int, ids))))


def _details(request: Request, settings: Settings) -> tuple[DetailsMatch, ...]:
    filters = [(name, text) for name, text in request.query_params.multi_items() if name.startswith(DETAILS)]
    maximum = settings.max_filter_values
    if len(filters) > maximum:
        raise _invalid(
            "details", f"has {len(filters)} filters, the maximum is {maximum} (BRAIN_COLLECTOR_MAX_FILTER_VALUES)"
        )
    matches = [
        DetailsMatch(_path(name, settings.max_details_depth), _storable(_shown(name), text)) for name, text in filters
    ]
    return tuple(sorted(matches, key=lambda match: match.path))


def _path(name: str, max_depth: int) -> tuple[str, ...]:
    r"""Split `details.a.b\.c` into a and b.c: a backslash escapes the next character."""
    _storable(_shown(name), name)
    path = split_path(name.removeprefix(DETAILS))
    if path is None:
        raise _invalid(_shown(name), "has a backslash that is not followed by a dot or a backslash; write two for one")
    if "" in path:
        raise _invalid(_shown(name), "has an empty key; write a dot within a key as a backslash and a dot")
    if len(path) > max_depth:
        raise _invalid(_shown(name), f"has {len(path)} levels, the maximum is {max_depth}")
    return path


def _shown(name: str) -> str:
    return name[:80].replace("\0", "\ufffd")


def choice(request: Request, name: str, literal: Any, *, default: str) -> Any:
    """Return a parameter whose type is a `Literal`."""
    value = request.query_params.get(name, default)
    if value not in get_args(literal):
        raise _invalid(name, f"is {value[:30]!r}, must be one of {', '.join(get_args(literal))}")
    return value


def whole_number(request: Request, name: str, *, default: int, minimum: int, maximum: int, remedy: str = "") -> int:
    """Return an integer parameter within its range; `remedy` follows in the error."""
    text = request.query_params.get(name)
    if text is None:
        return default
    is_integer = len(text) <= 20 and text.isascii() and text.removeprefix("-").isdecimal()
    if not is_integer or not minimum <= int(text) <= maximum:
        raise _invalid(name, f"is {text[:30]!r}, must be an integer from {minimum} to {maximum}{remedy}")
    return int(text)


def event_id(request: Request) -> int:
    """Return the id in the path."""
    text = request.path_params["id"]
    if not text.isascii() or not text.removeprefix("-").isdecimal():
        raise _invalid("id", f"is {text[:30]!r}, must be an integer")
    if len(text) > len(str(MAX_ID)) or not 0 < int(text) <= MAX_ID:
        raise EventNotFound(f"there is no event {text[:30]}")
    return int(text)


def text(request: Request, name: str, *, max_chars: int | None = None) -> str | None:
    """Return a parameter unchanged; None if it is absent."""
    value = request.query_params.get(name)
    return None if value is None else _storable(name, value, max_chars)


def _storable(name: str, text: str, max_chars: int | None = None) -> str:
    """Return a text unchanged; refuse one that no event can have."""
    if "\0" in text:
        raise _invalid(name, "contains a NUL character, which no event contains")
    if max_chars is not None and len(text) > max_chars:
        raise _invalid(name, f"has {len(text):,} characters, the maximum is {max_chars}")
    return text


def moment(request: Request, name: str) -> datetime | None:
    """Return a timestamp in UTC; None if it is absent."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return parse_moment(text)
    except (msgspec.ValidationError, OverflowError):
        raise _invalid(name, f"is {text[:40]!r}, must be a timestamp (RFC 3339) such as 2026-01-02T23:45:12Z") from None


def parse_moment(text: str) -> datetime:
    """Return a timestamp in UTC, which is also the default if it has no offset.

    Raises:
        msgspec.ValidationError: the text is not a timestamp.
        OverflowError: it is outside the range of `datetime`.
    """
    moment = msgspec.convert(text.replace(" ", "+"), datetime)  # an unescaped + arrives as a space
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _invalid(name: str, problem: str) -> ParameterInvalid:
    return ParameterInvalid(
        f"{name} {problem}", errors=[FieldError(f"/{name}", "parameter_invalid", f"{name} {problem}")]
    )
