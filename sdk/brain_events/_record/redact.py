"""Remove secrets from the texts of an encoded event, just before it leaves the process.

A check of the bytes takes one to four microseconds and passes every line in which nothing resembles a secret. Only the
other lines are decoded, searched text by text (`secret_shapes`), and encoded again within the same limits.
"""

from typing import Any

import msgspec

from brain_events._record.event import cut, encode_event
from brain_events._record.limits import Limits
from brain_events._record.secret_shapes import may_hold_pair, may_hold_token, scrub_text
from brain_events.wire import EVENT_TYPE_MAX_CHARS, SOURCE_MAX_CHARS, Event

_decode = msgspec.json.Decoder(Event).decode


def scrub(line: bytes, limits: Limits) -> bytes:
    """Return `line` with every secret replaced by `[scrubbed]`; a clean line is returned itself.

    Raises:
        msgspec.DecodeError: `encode_event` did not make the line. `UnicodeDecodeError` is raised as well.
    """
    text = line.decode("latin-1")  # `in` is twice as fast on str
    if not (may_hold_token(text) or may_hold_pair(text)):
        return line
    event, allowed_keys = _decode(line), limits.allowed_keys
    event_type, message = scrub_text(event.event_type, allowed_keys), scrub_text(event.message, allowed_keys)
    source, details = _scrub_value(event.source, allowed_keys), _scrub_value(event.details, allowed_keys)
    if (event_type, message, source, details) == (event.event_type, event.message, event.source, event.details):
        return line
    event.event_type, event.source = cut(event_type, EVENT_TYPE_MAX_CHARS), cut(source, SOURCE_MAX_CHARS) or None
    event.message, event.details = message, details
    return encode_event(event, limits)


def _scrub_value(value: Any, allowed_keys: frozenset[str]) -> Any:
    if type(value) is str:
        return scrub_text(value, allowed_keys)
    if type(value) is list:
        return [_scrub_value(item, allowed_keys) for item in value]
    if type(value) is dict:
        return {
            scrub_text(key, allowed_keys): item if key in allowed_keys else _scrub_value(item, allowed_keys)
            for key, item in value.items()
        }
    return value
