"""Trace correlation: read the ids of a trace from a W3C `traceparent` header or the current OpenTelemetry span.

OpenTelemetry is never imported here. It is used only if the application has loaded it.
"""

import re
import sys
from typing import Any, Final

OPENTELEMETRY: Final = "opentelemetry.trace"
MODULES: Final = sys.modules

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)


def parse_traceparent(header: bytes) -> dict[str, str]:
    """Return `trace_id` and `span_id` (the caller's), or an empty dict if the header is invalid.

    W3C Trace Context, section 3.2: zeros and version ff are invalid; versions after 00 may append fields.
    """
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return {}
    version, trace_id, span_id, more = match.groups()
    if version == b"ff" or (version == b"00" and more) or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return {}
    return {"trace_id": trace_id.decode(), "span_id": span_id.decode()}


def with_span(fields: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return `fields` with the ids of the current OpenTelemetry span, if any. OpenTelemetry must be loaded."""
    try:
        context = MODULES[OPENTELEMETRY].get_current_span().get_span_context()
        if not context.is_valid:
            return fields
        ids = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    except Exception:  # noqa: BLE001 -- partially imported, or another module of that name
        return fields
    return {**fields, **ids} if fields else ids
