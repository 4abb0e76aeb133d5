"""Judging: a collector's `Answer` goes in, what to do with the batch comes out.

A batch is let go only when the collector itself says so, in its own words: a proxy, a captive portal or another
service on the same address can answer 200 or 400 too, and must not make events disappear.
"""

from enum import Enum, auto

import msgspec

from brain_events._delivery.transport import Answer
from brain_events.wire import FINAL_CODES, BatchAnswer


class Verdict(Enum):
    """What becomes of a batch after an answer."""

    SETTLED = auto()
    """The collector has it: let it go."""
    REJECTED = auto()
    """The collector will never take it, under any number of resends: set it aside."""
    HALVE = auto()
    """Too large for one request: send it as two."""
    RETRY = auto()
    """Nothing is wrong with it: send it again after a back-off."""
    PARK = auto()
    """Something is wrong with the key, the address or the way there: keep it, ask again now and then."""


class Judgement(msgspec.Struct, frozen=True):
    """A verdict, how many events were stored and refused, and the reason in words for a person."""

    verdict: Verdict
    accepted: int = 0
    rejected: int = 0
    reason: str = ""


class _Problem(msgspec.Struct):
    """The members of RFC 9457 that we use."""

    code: str = ""
    detail: str = ""


def judge(answer: Answer, count: int) -> Judgement:
    """Return what `answer` means for a batch of `count` events."""
    if 200 <= answer.status < 300:
        return _judge_success(answer, count)
    problem = _problem_of(answer)
    reason = f"HTTP {answer.status} {problem.code} {problem.detail[:200]}".rstrip()
    if answer.status in {408, 409, 425, 429} or answer.status >= 500:
        return Judgement(Verdict.RETRY, reason=reason)
    if answer.status == 413 and count > 1:
        return Judgement(Verdict.HALVE, reason=reason)
    if answer.status in {400, 413, 415, 422} and problem.code in FINAL_CODES:
        return Judgement(Verdict.REJECTED, rejected=count, reason=reason)
    return Judgement(Verdict.PARK, reason=reason)


def _judge_success(answer: Answer, count: int) -> Judgement:
    try:
        receipt = msgspec.json.decode(answer.body, type=BatchAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Judgement(Verdict.PARK, reason=f"HTTP {answer.status}, but not from a collector")
    if not receipt.received == count == receipt.accepted + receipt.rejected:
        reason = f"HTTP {answer.status}, but the collector counts {receipt.received} events where {count} were sent"
        return Judgement(Verdict.PARK, reason=reason)
    first = f"{receipt.errors[0].code}: {receipt.errors[0].detail[:200]}" if receipt.errors else ""
    return Judgement(Verdict.SETTLED, receipt.accepted, receipt.rejected, first)


def _problem_of(answer: Answer) -> _Problem:
    if answer.content_type.partition(";")[0].strip().lower() != "application/problem+json":
        return _Problem()
    try:
        return msgspec.json.decode(answer.body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Problem()
