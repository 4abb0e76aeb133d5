"""The checks of every request that stores events, before its body is read."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request

from brain_collector.access.guard import caller_of, sender_of
from brain_collector.api.idempotency import idempotency_key, refuse_too_old
from brain_collector.api.resources import Resources


class Sender(NamedTuple):
    """The client of a request that stores events.

    Attributes:
        caller: The caller's name, which rate limits apply to.
        address: The caller's name and network address, kept with rejected lines.
        idempotency_key: The idempotency key, if any.
    """

    caller: str
    address: str
    idempotency_key: UUID | None


def identify(request: Request, resources: Resources) -> Sender:
    """Return the sender, if it may store events now.

    Raises:
        IdempotencyKeyMalformed, BatchTooOld: the idempotency key is malformed, or may have been forgotten.
        RateLimited: the caller has exceeded its rate limit already.
    """
    key = idempotency_key(request)
    refuse_too_old(key, datetime.now(UTC), resources.settings.idempotency_key_life_days)
    caller = caller_of(request.scope)
    resources.rate_limit.refuse_early(caller)
    return Sender(caller, sender_of(request), key)
