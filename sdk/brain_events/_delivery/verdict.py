"""Judge a response: decide what happens to the batch that was sent.

A batch is given up only when the response provably comes from a collector. A proxy, a captive portal or another service
at the same address can also respond with 200 or 400, and must not make events disappear.
"""

from enum import Enum, auto

import msgspec

from brain_events._delivery.transport import Response
from brain_events.wire import FINAL_CODES, FORMER_CODES, BatchAnswer


class Outcome(Enum):
    """The outcome of an attempt to deliver a batch."""

    SETTLED = auto()
    """The collector has it: remove it."""
    REJECTED = auto()
    """The collector will never accept it, however often it is sent: set it aside."""
    HALVE = auto()
    """It is too large for one request: send it as two batches."""
    RETRY = auto()
    """Nothing is wrong with it: send it again after a back-off."""
    PARK = auto()
    """Something is wrong with the API key, the URL or the network: keep it, and probe at intervals."""


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of an attempt, how many events were stored and rejected, and the reason for a person to read."""

    outcome: Outcome
    accepted: int = 0
    rejected: int = 0
    reason: str = ""


class _Problem(msgspec.Struct):
    """The members of a problem (RFC 9457) that are used here."""

    code: str = ""
    detail: str = ""


def judge(response: Response, count: int) -> Verdict:
    """Return the verdict on a batch of `count` events."""
    if 200 <= response.status < 300:
        return _judge_success(response, count)
    problem = _problem_of(response)
    reason = f"HTTP {response.status} {problem.code} {problem.detail[:200]}".rstrip()
    if response.status in {408, 409, 425, 429} or response.status >= 500:
        return Verdict(Outcome.RETRY, reason=reason)
    if response.status == 413 and count > 1:
        return Verdict(Outcome.HALVE, reason=reason)
    if response.status in {400, 413, 415, 422} and problem.code in FINAL_CODES | FORMER_CODES:
        return Verdict(Outcome.REJECTED, rejected=count, reason=reason)
    return Verdict(Outcome.PARK, reason=reason)


def _judge_success(response: Response, count: int) -> Verdict:
    try:
        answer = msgspec.json.decode(response.body, type=BatchAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Verdict(Outcome.PARK, reason=f"HTTP {response.status}, but not from a collector")
    is_sound = answer.received == count == answer.accepted + answer.rejected
    if not is_sound or min(answer.accepted, answer.rejected) < 0:
        counts = f"{answer.received} received, {answer.accepted} accepted and {answer.rejected} rejected events"
        reason = f"HTTP {response.status}, but the collector counts {counts} where {count} were sent"
        return Verdict(Outcome.PARK, reason=reason)
    first = f"{answer.errors[0].code}: {answer.errors[0].detail[:200]}" if answer.errors else ""
    return Verdict(Outcome.SETTLED, answer.accepted, answer.rejected, first)


def _problem_of(response: Response) -> _Problem:
    if response.content_type.partition(";")[0].strip().lower() != "application/problem+json":
        return _Problem()
    try:
        return msgspec.json.decode(response.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Problem()
