"""How much each caller may send: token buckets of events and of bytes; a caller, a cost in, what is left out.

A batch passes while there is a token, and then takes all that it costs, if need be on credit: so a batch of any size
passes some time, and on average the rate holds. The buckets are in Redis, by Redis' clock, so that collectors share
them; while it does not answer, each collector has its own.
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
local found = redis.call('HMGET', KEYS[1], 'at', 'events', 'bytes')
local since = math.max(0, now - (tonumber(found[1]) or now))
local left, passes, full_s = {}, 1, 0
for i = 1, 2 do
    local rate, most = tonumber(ARGV[i]), tonumber(ARGV[i]) * ARGV[3]
    left[i] = math.min(most, (tonumber(found[i + 1]) or most) + since * rate)
    if rate > 0 and left[i] < math.min(1, most) then passes = 0 end
end
for i = 1, 2 do
    local rate = tonumber(ARGV[i])
    if passes == 1 then left[i] = left[i] - ARGV[i + 3] end
    if rate > 0 then full_s = math.max(full_s, ARGV[3] - left[i] / rate) end
end
redis.call('HSET', KEYS[1], 'at', string.format('%.6f', now),
    'events', string.format('%.3f', left[1]), 'bytes', string.format('%.3f', left[2]))
redis.call('PEXPIRE', KEYS[1], math.ceil(full_s * 1000) + 1000)
return {tostring(passes), string.format('%.3f', left[1]), string.format('%.3f', left[2])}
"""
"""ARGV: events a second, bytes a second, seconds' worth that a bucket holds, events and bytes that this costs."""

Evaluate = Callable[..., Awaitable[list[bytes] | None]]


class _Left(NamedTuple):
    """Whether a cost was taken, and the tokens that are left; below zero on credit."""

    passed: bool
    events: float
    bytes: float


class RateLimit:
    """What callers have left."""

    def __init__(self, settings: Settings, evaluate: Evaluate) -> None:
        self._rates = (settings.max_events_per_s, settings.max_bytes_per_s)
        self._burst_s = settings.burst_s
        self._answer_after_s = settings.admission_wait_s
        self._evaluate = evaluate
        self._own: OrderedDict[str, tuple[float, float, float]] = OrderedDict()  # when, events, bytes
        self._blocked: OrderedDict[str, tuple[float, _Left]] = OrderedDict()

    def refuse_early(self, caller: str) -> None:
        """Refuse, before its body is read, a request of a caller who is known to have nothing left.

        Raises:
            RateLimited: as said.
        """
        until, left = self._blocked.get(caller, (0.0, None))
        if left is None:
            return
        if (wait_s := until - time.monotonic()) > 0:
            raise self._refusal(left, wait_s)
        del self._blocked[caller]

    async def take(self, caller: str, *, n_events: int, n_bytes: int) -> dict[str, str]:
        """Take what a request costs; return the headers that say what is left.

        Raises:
            RateLimited: there was nothing left; nothing was taken.
        """
        if not any(self._rates):
            return {}
        found = await self._evaluate(_SCRIPT, f"quota:{caller}", *self._rates, self._burst_s, n_events, n_bytes)
        left = self._take_own(caller, (n_events, n_bytes)) if found is None else _read(found)
        if wait_s := self._wait_s(left):
            _keep(self._blocked, caller, (time.monotonic() + wait_s, left))
        if not left.passed:
            raise self._refusal(left, wait_s)
        return self._headers(left)

    def _take_own(self, caller: str, cost: tuple[int, int]) -> _Left:
        """Do as the script does, with a bucket of this process."""
        now = time.monotonic()
        full = [rate * self._burst_s for rate in self._rates]
        then, *levels = self._own.get(caller, (now, *full))
        left = [
            min(most, level + (now - then) * rate) for most, level, rate in zip(full, levels, self._rates, strict=True)
        ]
        passed = not any(
            rate and level < min(1, most) for rate, level, most in zip(self._rates, left, full, strict=True)
        )
        if passed:
            left = [level - part for level, part in zip(left, cost, strict=True)]
        _keep(self._own, caller, (now, left[0], left[1]))
        return _Left(passed, left[0], left[1])

    def _wait_s(self, left: _Left) -> float:
        """Return how long it takes until a request passes again."""
        limited = [
            (rate, level, rate * self._burst_s) for rate, level in zip(self._rates, left[1:], strict=True) if rate
        ]
        return max((max(0.0, min(1, most) - level) / rate for rate, level, most in limited), default=0.0)

    def _refusal(self, left: _Left, wait_s: float) -> RateLimited:
        seconds = math.ceil(wait_s)
        limits = " and ".join(f"{rate:,g} {name} a second" for name, rate in self._named() if rate)
        refusal = RateLimited(
            f"this API key may send {limits}, and has sent more; send it again in {seconds} s, with the same "
            "Idempotency-Key",
            headers={"Retry-After": str(seconds), **self._headers(left)},
        )
        refusal.answer_after_s = min(wait_s, self._answer_after_s)
        return refusal

    def _headers(self, left: _Left) -> dict[str, str]:
        """Return the fields of draft-ietf-httpapi-ratelimit-headers; t is when all of q is there again."""
        policies, states = [], []
        for (name, rate), level in zip(self._named(), left[1:], strict=True):
            if rate:
                unit = ';qu="content-bytes"' if name == "bytes" else ""
                policies.append(f'"{name}";q={math.floor(rate * self._burst_s)}{unit};w={math.ceil(self._burst_s)}')
                full_s = math.ceil(max(0.0, self._burst_s - level / rate))
                states.append(f'"{name}";r={math.floor(max(0.0, level))};t={full_s}')
        return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(states)}

    def _named(self) -> list[tuple[str, float]]:
        return [("events", self._rates[0]), ("bytes", self._rates[1])]


def _read(reply: list[bytes]) -> _Left:
    passed, events, n_bytes = reply
    return _Left(passed == b"1", float(events), float(n_bytes))


def _keep(kept: "OrderedDict[str, Any]", caller: str, value: object) -> None:
    kept[caller] = value
    kept.move_to_end(caller)
    if len(kept) > MAX_CALLERS:
        kept.popitem(last=False)
