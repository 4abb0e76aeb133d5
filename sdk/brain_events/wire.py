"""The contract between SDK and collector: events, the response to a batch, and the limits that both sides keep.

A batch is sent as NDJSON, one `Event` per line, with an `Idempotency-Key` header. The collector responds with one
`BatchAnswer`. This is the only module of the SDK that the collector imports.
"""

import os
import time
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

SEVERITIES: Final = ("info", "warning", "error", "critical")
"""All severities, in ascending order."""

SEVERITY_NAMES: Final = (
    {severity: severity for severity in SEVERITIES}
    | dict.fromkeys(
        ("trace", "verbose", "debug", "notset", "informational", "information", "notice", "success"), "info"
    )
    | dict.fromkeys(("config", "fine", "finer", "finest"), "info")
    | dict.fromkeys(("5", "6", "7"), "info")
    | dict.fromkeys(("warn", "4"), "warning")
    | dict.fromkeys(("err", "exception", "severe", "3"), "error")
    | dict.fromkeys(("crit", "fatal", "alert", "emerg", "emergency", "panic", "0", "1", "2"), "critical")
)
"""The severity for every name, in lower case, that syslog and the logging libraries use; and syslog's numbers."""

EVENT_TYPE_MAX_CHARS: Final = 50
"""Maximum length of an event type, in characters."""
SOURCE_MAX_CHARS: Final = 100
"""Maximum length of a source, in characters."""
DETAILS_MAX_DEPTH: Final = 32
"""Maximum number of nested levels in `details`; Postgres and JSON readers in other languages have limits, too."""
DETAILS_MAX_KEYS: Final = 1_000
"""Maximum number of details keys, at all levels together."""
DETAILS_MAX_VALUES: Final = 10_000
"""Maximum number of values in `details`: strings, numbers, constants, objects and arrays, at all levels together."""
DETAILS_KEY_MAX_CHARS: Final = 256
"""Maximum length of a details key, in characters."""

BATCH_PATH: Final = "/api/events/batch"
"""The path that batches are posted to."""
NDJSON: Final = "application/x-ndjson"
"""The media type of a batch."""
KEY_HEADER: Final = "Idempotency-Key"
"""The request header that carries the idempotency key of a batch."""

FINAL_CODES: Final = frozenset(
    {
        "body_undecodable",
        "body_too_large",
        "unsupported_media_type",
        "batch_invalid",
        "batch_too_old",
        "idempotency_key_reused",
        "idempotency_key_malformed",
    }
)
"""Problem codes (member `code` of RFC 9457) that resending cannot change; the client may give the batch up."""
FORMER_CODES: Final = frozenset({"key_reused", "key_malformed"})
"""Final codes of a collector of 0.1.0; later ones call them `idempotency_key_reused` and `…_malformed`."""


class Event(msgspec.Struct, gc=False, omit_defaults=True):
    """One event, which is sent as one line of NDJSON."""

    event_type: str
    """The kind of event, such as `order_paid`; 1 to 50 characters."""
    severity: str
    """One of `SEVERITIES`."""
    message: str
    """One line for a person to read."""
    details: dict[str, Any] | None = None
    """Structured data about the event, a JSON object."""
    source: str | None = None
    """The service or host that logged the event; at most 100 characters."""
    timestamp: datetime | None = None
    """The time of the event, in RFC 3339; if absent, the collector uses the time of arrival."""


class LineError(msgspec.Struct, frozen=True):
    """The reason why one line of a batch was rejected.

    `index` is the position of the line, from 0. `code` is for a program, `detail` for a person. `pointer` (RFC 6901)
    names the member of the event that is wrong; it is empty for the event itself.
    """

    index: int
    code: str
    detail: str
    pointer: str = ""


class BatchAnswer(msgspec.Struct, frozen=True):
    """The collector's response to a batch.

    `received` = `accepted` + `rejected`. `duplicate`: a batch with this idempotency key was stored before, and nothing
    was stored again. `errors` names rejected lines, or only the first ones if `errors_truncated`. `adjusted` counts the
    accepted events with a time or text that cannot be stored as sent; their details note the change.
    """

    received: int
    accepted: int
    rejected: int
    duplicate: bool
    errors: list[LineError]
    errors_truncated: bool
    adjusted: int = 0


_last_tick = [0]


def new_key() -> UUID:
    """Return an idempotency key: a UUIDv7 above the last one of this process, so that keys sort as batches were begun.

    RFC 9562, section 6.2, method 3: the time in ms, 12 bits of its fraction (244 ns each), and 62 random bits. If the
    clock stops or is set back, the ticks continue from the last value.
    """
    ms, ns = divmod(time.time_ns(), 1_000_000)
    _last_tick[0] = tick = max(ms << 12 | (ns << 12) // 1_000_000, _last_tick[0] + 1)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=tick >> 12 << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0x2 << 62 | random)
