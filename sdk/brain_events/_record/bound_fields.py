"""Add the bound fields and the ids of the current span to the details of an event."""

from typing import Any

from brain_events._record.trace import MODULES, OPENTELEMETRY, with_span
from brain_events.context import BOUND, SILENT, SilencedError


def with_bound(details: Any) -> Any:
    """Return `details` with the bound fields and the span's ids added; `details` take precedence, then the ids.

    Raises:
        SilencedError: The event is logged by code whose events are dropped.
    """
    fields = BOUND.get()
    if fields is not None and SILENT in fields:
        raise SilencedError
    if OPENTELEMETRY in MODULES:
        fields = with_span(fields)
    if fields is None:
        return details
    if details is None:
        return fields
    try:
        return {**fields, **details}
    except Exception:  # noqa: BLE001 -- not a mapping, or one that raises
        return {**fields, "value": details}
