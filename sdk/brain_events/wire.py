"""The contract between SDK and collector: the event line, the batch answer, and the limits both sides keep.

A batch travels as NDJSON, one `Event` a line, under an `Idempotency-Key`; the collector answers
with one `BatchAnswer`. This is the only module of the SDK that the collector imports.
"""

import os
import time
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

SEVERITIES: Final = ("info", "warning", "error", "critical")
"""Every severity there is, mildest first."""

EVENT_TYPE_MAX_CHARS: Final = 50
SOURCE_MAX_CHARS: Final = 100
DETAILS_MAX_DEPTH: Final = 32
"""Levels of nesting; Postgres and readers in other languages have limits of their own."""
DETAILS_MAX_KEYS: Final = 1_000
"""At all levels together."""
DETAILS_KEY_MAX_CHARS: Final = 256

BATCH_PATH: Final = "/api/events/batch"
NDJSON: Final = "application/x-ndjson"
KEY_HEADER: Final = "Idempotency-Key"

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
"""Problem codes (RFC 9457 member `code`) that no resend can change: a client may set the batch aside."""


class Event(msgspec.Struct, gc=False, omit_defaults=True):
    """One event as it travels, one line of NDJSON.

    `event_type` has 1 to 50 characters, `severity` is one of `SEVERITIES`, `details` is a JSON
    object, `source` has at most 100 characters, `timestamp` is RFC 3339 (absent: time of arrival).
    """

    event_type: str
    severity: str
    message: str
    details: dict[str, Any] | None = None
    source: str | None = None
    timestamp: datetime | None = None


class LineError(msgspec.Struct, frozen=True):
    """Why one line of a batch was not stored.

    `index` counts the lines from 0; `pointer` (RFC 6901) is the place within the event, empty for the whole.
    """

    index: int
    code: str
    detail: str
    pointer: str = ""


class BatchAnswer(msgspec.Struct, frozen=True):
    """What became of a batch. `received` = `accepted` + `rejected`; `errors` may be cut, then `errors_truncated`.

    `adjusted` of the accepted are not quite what was sent, which their details note: times, or text, that cannot be.
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
    """Return a UUIDv7 above the last one of this process, so that batches are numbered in the order of their sealing.

    RFC 9562, section 6.2, method 3: the time in ms, 12 bits of its fraction (244 ns each), 62 random bits. Should the
    clock stand or go back, the ticks go on counting.
    """
    ms, ns = divmod(time.time_ns(), 1_000_000)
    _last_tick[0] = tick = max(ms << 12 | (ns << 12) // 1_000_000, _last_tick[0] + 1)
    random = int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=tick >> 12 << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0x2 << 62 | random)
