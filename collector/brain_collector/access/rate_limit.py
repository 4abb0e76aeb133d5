"""Rate limits: token buckets of events and of bytes for each caller.

A request is admitted while any tokens are left, and charged in full; the balance may become negative. So a batch of
any size is admitted eventually, and the rate holds on average. The buckets are in Redis, and use its clock, so that
collectors share them; while Redis does not respond, each collector uses its own.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from brain_collector.errors import RateLimited
from brain_collector.settings import Settings

MAX_CALLERS: Final = 10_000
_SCRIPT: Final = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then redis.call('DEL', KEYS[1]) end
local bucket = redis.call('HMGET', KEYS[1], 'at', 'events', 'bytes')
local elapsed_s = math.max(0, now - (tonumber(bucket[1]) or now))
local tokens, admitted, full_s = {}, 1, 0
for i = 1, 2 do
    local rate, capacity = tonumber(ARGV[i]), tonumber(ARGV[i]) * ARGV[3]
    tokens[i] = math.min(capacity, (tonumber(bucket[i + 1]) or capacity) + elapsed_s * rate)
    if rate > 0 and tokens[i] < math.min(1, capacity) then admitted = 0 end
end
for i = 1, 2 do
    local rate = tonumber(ARGV[i])
    if admitted == 1 then tokens[i] = tokens[i] - ARGV[i + 3] end
    if rate > 0 then full_s = math.max(full_s, ARGV[3] - tokens[i] / rate) end
end
redis.call('HSET', KEYS[1], 'at', string.format('%.6f', now),
    'events', string.format('%.3f', tokens[1]), 'bytes', string.format('%.3f', tokens[2]))
redis.call('PEXPIRE', KEYS[1], math.ceil(full_s * 1000) + 1000)
return {tostring(admitted), string.format('%.3f', tokens[1]), string.format('%.3f', tokens[2])}
"""
"""ARGV: events per second, bytes per second, the capacity in seconds of each rate, the cost in events and in bytes."""

Evaluate = Callable[..., Awaitable[list[bytes] | None]]


class _Balance(NamedTuple):
    """The tokens of a caller, which may be negative, and whether the request was admitted and charged."""

    is_admitted: bool
    events: float
    bytes: float


class RateLimit:
    """The buckets of all callers."""

    def __init__(self, settings: Settings, evaluate: Evaluate) -> None:
        self._rates = (settings.max_events_per_s, settings.max_bytes_per_s)
        self._burst_s = settings.burst_s
        self._answer_after_s = settings.admission_wait_s
        self._evaluate = evaluate
        self._local: OrderedDict[str, tuple[float, float, float]] = OrderedDict()  # time, events, bytes
        self._blocked: OrderedDict[str, tuple[float, _Balance]] = OrderedDict()  # until when

    def refuse_early(self, caller: str) -> None:
        """Refuse a request before its body is read, if the caller is known to have no tokens left.

        Raises:
            RateLimited: the caller has exceeded its rate limit.
        """
        until_s, balance = self._blocked.get(caller, (0.0, None))
        if balance is None:
            return
        if (wait_s := until_s - time.monotonic()) > 0:
            raise self._refusal(balance, wait_s)
        del self._blocked[caller]

    async def take(self, caller: str, *, n_events: int, n_bytes: int) -> dict[str, str]:
        """Charge a request; return the headers that report the balance.

        Raises:
            RateLimited: the caller has exceeded its rate limit; nothing was charged.
        """
        if not any(self._rates):
            return {}
        reply = await self._evaluate(_SCRIPT, f"quota:{caller}", *self._rates, self._burst_s, n_events, n_bytes)
        balance = self._take_locally(caller, (n_events, n_bytes)) if reply is None else _balance(reply)
        if wait_s := self._wait_s(balance):
            _store(self._blocked, caller, (time.monotonic() + wait_s, balance))
        if not balance.is_admitted:
            raise self._refusal(balance, wait_s)
        return self._headers(balance)

    def _take_locally(self, caller: str, cost: tuple[int, int]) -> _Balance:
        """Do the same as the script, with a bucket of this process."""
        now_s = time.monotonic()
        capacities = [rate * self._burst_s for rate in self._rates]
        last_s, *levels = self._local.get(caller, (now_s, *capacities))
        tokens = [
            min(capacity, level + (now_s - last_s) * rate)
            for capacity, level, rate in zip(capacities, levels, self._rates, strict=True)
        ]
        is_admitted = not any(
            rate and n < min(1, capacity) for rate, n, capacity in zip(self._rates, tokens, capacities, strict=True)
        )
        if is_admitted:
            tokens = [n - charge for n, charge in zip(tokens, cost, strict=True)]
        _store(self._local, caller, (now_s, tokens[0], tokens[1]))
        return _Balance(is_admitted, tokens[0], tokens[1])

    def _wait_s(self, balance: _Balance) -> float:
        """Return the time until a request is admitted again."""
        limited = [(rate, n, rate * self._burst_s) for rate, n in zip(self._rates, balance[1:], strict=True) if rate]
        return max((max(0.0, min(1, capacity) - n) / rate for rate, n, capacity in limited), default=0.0)

    def _refusal(self, balance: _Balance, wait_s: float) -> RateLimited:
        seconds = math.ceil(wait_s)
        limits = " and ".join(f"{rate:,g} {unit} a second" for unit, rate in self._limits() if rate)
        refusal = RateLimited(
            f"this API key exceeded its rate limit of {limits}; send the request again in {seconds} s, with the same "
            "Idempotency-Key",
            headers={"Retry-After": str(seconds), **self._headers(balance)},
        )
        refusal.answer_after_s = min(wait_s, self._answer_after_s)
        return refusal

    def _headers(self, balance: _Balance) -> dict[str, str]:
        """Return the headers of draft-ietf-httpapi-ratelimit-headers; t is the time until the quota q is full again."""
        policies, states = [], []
        for (unit, rate), n in zip(self._limits(), balance[1:], strict=True):
            if rate:
                quota_unit = ';qu="content-bytes"' if unit == "bytes" else ""
                quota = math.floor(rate * self._burst_s)
                policies.append(f'"{unit}";q={quota}{quota_unit};w={math.ceil(self._burst_s)}')
                full_s = math.ceil(max(0.0, self._burst_s - n / rate))
                states.append(f'"{unit}";r={math.floor(max(0.0, n))};t={full_s}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}

    def _limits(self) -> list[tuple[str, float]]:
        return [("events", self._rates[0]), ("bytes", self._rates[1])]


def _balance(reply: list[bytes]) -> _Balance:
    is_admitted, events, n_bytes = reply
    return _Balance(is_admitted == b"1", float(events), float(n_bytes))


def _store(callers: "OrderedDict[str, Any]", caller: str, value: object) -> None:
    callers[caller] = value
    callers.move_to_end(caller)
    if len(callers) > MAX_CALLERS:
        callers.popitem(last=False)
