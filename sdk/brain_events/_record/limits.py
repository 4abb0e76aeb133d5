"""The limits that every event of a client is held to, as one value."""

import msgspec

from brain_events.config import Config


class Limits(msgspec.Struct, frozen=True):
    """The maximum size of an encoded event, and the details keys whose values are never scrubbed."""

    max_bytes: int
    allowed_keys: frozenset[str] = frozenset()


def limits_of(config: Config) -> Limits:
    """Return the limits that `config` sets."""
    return Limits(config.max_event_bytes, config.allowed_keys)
