"""The limits that every event of a client is held to, as one value."""

import msgspec

from brain_events.config import Config


class Limits(msgspec.Struct, frozen=True):
    """The maximum size of an encoded event, the details keys whose values are never scrubbed, and what is added."""

    max_bytes: int
    allowed_keys: frozenset[str] = frozenset()
    add_where: bool = True


def limits_of(config: Config) -> Limits:
    """Return the limits that `config` sets."""
    return Limits(config.max_event_bytes, config.allowed_keys, config.add_where)
