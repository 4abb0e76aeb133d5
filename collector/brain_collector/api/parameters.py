"""Query and path parameters: strings in, checked values out; an unknown or malformed one is an error, never ignored."""

from collections.abc import Container, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, get_args
from urllib.parse import urlencode

import msgspec
from msgspec import Meta
from starlette.requests import Request

from brain_collector.api.operation import Parameter
from brain_collector.errors import EventNotFound, FieldError, ParameterInvalid
from brain_collector.query import search_terms
from brain_collector.query.details_path import split_path
from brain_collector.query.filter import DetailsMatch, Filter, at_least
from brain_collector.schema import Severity
from brain_collector.settings import Settings
from brain_events.wire import SEVERITIES

MAX_ID: Final = 2**63 - 1
DETAILS: Final = "details."
"""The prefix of a filter on the details; the path follows."""

KIND_PARAMETERS: Final = (
    Parameter(name="event_type", type=list[str], description="Only events of this type; repeat it for several."),
    Parameter(name="severity", type=Severity, description="Only events of this severity."),
    Parameter(name="severity_min", type=Severity, description="Only events of this severity or a higher one."),
)
TEXT_PARAMETERS: Final = (
    Parameter(name="source", type=str, description="Only events of this source."),
    Parameter(
        name="q",
        type=Annotated[str, Meta(min_length=1, max_length=search_terms.MAX_CHARS)],
        description="Only events that have these words in their type, message, source or the texts of their details: "
        '`timeout "connection refused" -retry`, `this or that`. A word is letters and digits, in any case.',
    ),
)
FILTER_PARAMETERS: Final = (*KIND_PARAMETERS, *TEXT_PARAMETERS)
"""The filters of events as they arrive."""

RANGE_PARAMETERS: Final = (
    Parameter(name="from", type=datetime, description="Only events from this moment on (RFC 3339)."),
    Parameter(name="to", type=datetime, description="Only events before this moment (RFC 3339)."),
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
    """Refuse parameters that are unknown, or given twice: a filter that is ignored must not look as if it were applied.

    `prefix` begins the names of further ones; `reason` follows the name of an unknown one.
    """
    if not request.scope["query_string"]:
        return
    names, seen = sorted(parameter.name for parameter in known), set[str]()
    for name, _ in request.query_params.multi_items():
        if name not in names and (prefix is None or not name.startswith(prefix)):
            shown = names if prefix is None else [*names, f"{prefix}<path>"]
            raise _invalid(name[:80], f"is not a parameter here{reason}; known: {', '.join(shown) or 'none'}")
        if name in seen and name not in repeatable:
            raise _invalid(name[:80], "is given more than once; give it once")
        seen.add(name)


def event_filter(request: Request, settings: Settings) -> Filter:
    """Return the filter of a list or of counts; where a value has no order of its own, it gets one."""
    since, until = time_range(request)
    return Filter(
        event_types=_event_types(request, settings.max_filter_values),
        severities=_severities(request),
        source=text(request, "source"),
        ids=_ids(request, settings.max_list_limit),
        details=_details(request, settings),
        since=since,
        until=until,
        words=None if (given := text(request, "q")) is None else search_terms.parse(given),
    )


def time_range(request: Request) -> tuple[datetime | None, datetime | None]:
    """Return `from` and `to`."""
    since, until = moment(request, "from"), moment(request, "to")
    if since and until and since > until:
        raise _invalid("from", f"is {since.isoformat()}, which is after `to`, {until.isoformat()}")
    return since, until


def _event_types(request: Request, most: int) -> tuple[str, ...]:
    given = tuple(sorted({_clean("event_type", text) for text in request.query_params.getlist("event_type")}))
    if len(given) > most:
        raise _invalid("event_type", f"has {len(given)} values, at most {most} (BRAIN_COLLECTOR_MAX_FILTER_VALUES)")
    return given


def _severities(request: Request) -> tuple[str, ...]:
    exact, least = (_severity(request, name) for name in ("severity", "severity_min"))
    if exact and least:
        raise _invalid("severity_min", "cannot be given with `severity`; give one of the two")
    return at_least(least) if least else (exact,) if exact else ()


def _severity(request: Request, name: str) -> str | None:
    text = request.query_params.get(name)
    if text is not None and text not in SEVERITIES:
        raise _invalid(name, f"is {text[:30]!r}, must be one of {', '.join(SEVERITIES)}")
    return text


def _ids(request: Request, most: int) -> tuple[int, ...]:
    text = request.query_params.get("id")
    if text is None:
        return ()
    given = text.split(",")
    for each in given:
        if not each.isascii() or not each.isdecimal() or len(each) > len(str(MAX_ID)) or not 0 < int(each) <= MAX_ID:
            raise _invalid("id", f"holds {each[:30]!r}, must be whole numbers from 1 to {MAX_ID}, with commas between")
    if len(given) > most:
        raise _invalid("id", f"has {len(given)} values, at most {most}; ask in several requests")
    return tuple(sorted(set(map(int, given))))


def _details(request: Request, settings: Settings) -> tuple[DetailsMatch, ...]:
    given = [(name, text) for name, text in request.query_params.multi_items() if name.startswith(DETAILS)]
    if len(given) > settings.max_filter_values:
        raise _invalid(
            "details",
            f"is filtered {len(given)} times, at most {settings.max_filter_values} (BRAIN_COLLECTOR_MAX_FILTER_VALUES)",
        )
    matches = [
        DetailsMatch(_path(name, settings.max_details_depth), _clean(_shown(name), text)) for name, text in given
    ]
    return tuple(sorted(matches, key=lambda match: match.path))


def _path(name: str, deepest: int) -> tuple[str, ...]:
    r"""Take `details.a.b\.c` apart into a and b.c: a backslash takes the next character as it is."""
    _clean(_shown(name), name)
    path = split_path(name.removeprefix(DETAILS))
    if path is None:
        raise _invalid(_shown(name), "holds a backslash that is not before a dot or a backslash; write it as two")
    if "" in path:
        raise _invalid(_shown(name), "has an empty key; write a dot that belongs to a key as a backslash and a dot")
    if len(path) > deepest:
        raise _invalid(_shown(name), f"is {len(path)} keys deep; details are at most {deepest}")
    return path


def _shown(name: str) -> str:
    return name[:80].replace("\0", "\ufffd")


def choice(request: Request, name: str, kind: Any, *, default: str) -> Any:
    """Return a parameter that is one of a `Literal`."""
    given = request.query_params.get(name, default)
    if given not in get_args(kind):
        raise _invalid(name, f"is {given[:30]!r}, must be one of {', '.join(get_args(kind))}")
    return given


def whole_number(request: Request, name: str, *, default: int, least: int, most: int, remedy: str = "") -> int:
    """Return an integer parameter within its range."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if len(text) > 20 or not text.isascii() or not text.removeprefix("-").isdecimal() or not least <= int(text) <= most:
        raise _invalid(name, f"is {text[:30]!r}, must be a whole number from {least} to {most}{remedy}")
    return int(text)


def next_page(request: Request, token: str) -> dict[str, str]:
    """Return the Link header for a cursor, none for an empty one; relative, so that it holds behind any proxy."""
    if not token:
        return {}
    kept = [(name, value) for name, value in request.query_params.multi_items() if name not in {"offset", "cursor"}]
    return {"Link": f'<{request.url.path}?{urlencode([*kept, ("cursor", token)])}>; rel="next"'}


def event_id(request: Request) -> int:
    """Return the id in the path."""
    text = request.path_params["id"]
    if not text.isascii() or not text.removeprefix("-").isdecimal():
        raise _invalid("id", f"is {text[:30]!r}, must be a whole number")
    if len(text) > len(str(MAX_ID)) or not 0 < int(text) <= MAX_ID:
        raise EventNotFound(f"there is no event {text[:30]}")
    return int(text)


def text(request: Request, name: str) -> str | None:
    """Return a parameter as it is; None when it is not there."""
    found = request.query_params.get(name)
    return None if found is None else _clean(name, found)


def _clean(name: str, text: str) -> str:
    if "\0" in text:
        raise _invalid(name, "holds a NUL character, which no event does")
    return text


def moment(request: Request, name: str) -> datetime | None:
    """Return a moment in UTC; None when it is not there."""
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        return as_moment(given)
    except (msgspec.ValidationError, OverflowError):
        raise _invalid(name, f"is {given[:40]!r}, must be RFC 3339, as 2026-01-02T23:45:12Z") from None


def as_moment(given: str) -> datetime:
    """Return a moment in UTC, which one without an offset is in.

    Raises:
        ValidationError: of msgspec; it is none.
        OverflowError: it is beyond the calendar.
    """
    found = msgspec.convert(given.replace(" ", "+"), datetime)  # an unescaped + arrives as a space
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def _invalid(name: str, problem: str) -> ParameterInvalid:
    return ParameterInvalid(
        f"{name} {problem}", errors=[FieldError(f"/{name}", "parameter_invalid", f"{name} {problem}")]
    )
