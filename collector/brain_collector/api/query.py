"""Query and path parameters: strings in, checked values out; an unknown or malformed one is an error, never ignored."""

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from starlette.requests import Request

from brain_collector.errors import EventNotFound, FieldError, ParameterInvalid
from brain_collector.store import Filter
from brain_events.wire import SEVERITIES

MAX_ID = 2**63 - 1


def only(request: Request, known: Iterable[str]) -> None:
    """Refuse parameters that are not known: a mistyped filter must not answer as if it were none."""
    names = sorted(known)
    for name in request.query_params:
        if name not in names:
            raise _invalid(name[:80], f"is not a parameter here; there are {', '.join(names) or 'none'}")


def event_filter(request: Request) -> Filter:
    """Return the filter of a list."""
    severity = _text(request, "severity")
    if severity is not None and severity not in SEVERITIES:
        raise _invalid("severity", f"is {severity[:30]!r}, must be one of {', '.join(SEVERITIES)}")
    since, until = _moment(request, "from"), _moment(request, "to")
    if since and until and since > until:
        raise _invalid("from", f"is {since.isoformat()}, which is after `to`, {until.isoformat()}")
    return Filter(
        event_type=_text(request, "event_type"),
        severity=severity,
        source=_text(request, "source"),
        since=since,
        until=until,
    )


def whole_number(request: Request, name: str, *, default: int, least: int, most: int, remedy: str = "") -> int:
    """Return an integer parameter within its range."""
    text = request.query_params.get(name)
    if text is None:
        return default
    if len(text) > 20 or not text.isascii() or not text.removeprefix("-").isdecimal() or not least <= int(text) <= most:
        raise _invalid(name, f"is {text[:30]!r}, must be a whole number from {least} to {most}{remedy}")
    return int(text)


def event_id(request: Request) -> int:
    """Return the id in the path."""
    text = request.path_params["id"]
    if not text.isascii() or not text.removeprefix("-").isdecimal():
        raise _invalid("id", f"is {text[:30]!r}, must be a whole number")
    if len(text) > len(str(MAX_ID)) or not 0 < int(text) <= MAX_ID:
        raise EventNotFound(f"there is no event {text[:30]}")
    return int(text)


def _text(request: Request, name: str) -> str | None:
    text = request.query_params.get(name)
    if text is not None and "\0" in text:
        raise _invalid(name, "holds a NUL character, which no event does")
    return text


def _moment(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        moment = msgspec.convert(text.replace(" ", "+"), datetime)  # an unescaped + arrives as a space
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise _invalid(name, f"is {text[:40]!r}, must be RFC 3339, as 2026-01-02T23:45:12Z") from None


def _invalid(name: str, problem: str) -> ParameterInvalid:
    return ParameterInvalid(
        f"{name} {problem}", errors=[FieldError(f"/{name}", "parameter_invalid", f"{name} {problem}")]
    )
