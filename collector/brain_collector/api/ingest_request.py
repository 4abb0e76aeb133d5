"""The checks of every request that stores events, before its body is read."""

from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from starlette.requests import Request

from brain_collector.access.guard import sender_of
from brain_collector.api.idempotency import idempotency_key, refuse_too_old
from brain_collector.api.resources import Resources
from brain_collector.http.scope import context_of


class Sender(NamedTuple):
    """The client of a request that stores events.

    Attributes:
        caller: The caller's name, which rate limits apply to.
        may_read: The caller has the scope `read`.
        address: The caller's name and network address, kept with rejected lines.
        idempotency_key: The idempotency key, if any.
    """

    caller: str
    may_read: bool
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
    caller = context_of(request.scope).caller
    resources.rate_limit.refuse_early(caller.name)
    return Sender(caller.name, "read" in caller.scopes, sender_of(request), key)
