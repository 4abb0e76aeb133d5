"""Errors: codes are unique, drawn in the docstring, and those that the SDK gives up on are client errors."""

import re
import weakref
from typing import get_args

import pytest
from starlette.requests import Request

from brain_collector import errors
from brain_collector.errors import CollectorError, Problem, Unavailable
from brain_collector.health.own_events import OWN_EVENTS
from brain_collector.http.problem import on_problem
from brain_collector.schema import Severity
from brain_events.wire import EVENT_TYPE_MAX_CHARS, FINAL_CODES, SEVERITIES

PROBLEMS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Problem)]
ANSWERED = [problem for problem in PROBLEMS if problem is not Problem]


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    assert errors.__doc__ is not None
    drawn = re.findall(r"── (\w+) +(\d{3})  (\w+)", errors.__doc__)

    assert sorted(drawn) == sorted((each.__name__, str(each.status), each.code) for each in ANSWERED)
    for name in re.findall(r"── (\w+)", errors.__doc__):
        assert issubclass(getattr(errors, name), CollectorError)


def test_every_code_is_unique_and_every_problem_has_a_title_and_a_sentence() -> None:
    codes = [each.code for each in ANSWERED]

    assert len(set(codes)) == len(codes)
    assert all(each.title and each.__doc__ for each in ANSWERED)


def test_the_codes_that_no_resend_can_change_are_codes_of_client_errors() -> None:
    status_of = {each.code: each.status for each in ANSWERED}

    assert set(status_of) >= FINAL_CODES
    assert {status_of[code] for code in FINAL_CODES} <= {400, 413, 415, 422}


def test_a_body_has_what_rfc_9457_asks_for() -> None:
    problem = Unavailable("the database is away", retry_after_s=7)

    body = problem.body
    assert (body.type, body.status, body.title) == ("about:blank", 503, Unavailable.title)
    assert (body.code, body.detail, problem.headers) == ("unavailable", "the database is away", {"Retry-After": "7"})


def test_the_severities_of_the_schema_are_those_of_the_wire() -> None:
    assert get_args(Severity) == SEVERITIES


@pytest.mark.parametrize("event_type", OWN_EVENTS)
def test_every_own_event_has_a_type_that_fits_and_a_sentence(event_type: str) -> None:
    assert 0 < len(event_type) <= EVENT_TYPE_MAX_CHARS
    assert OWN_EVENTS[event_type].endswith(".")


def test_being_unavailable_is_the_only_server_error() -> None:
    assert [each for each in ANSWERED if each.status >= 500] == [Unavailable]


class _Body:
    """A local of the frame that raises, as the body of a request is."""


async def _refused(bodies: "list[weakref.ref[_Body]]") -> None:
    body = _Body()
    bodies.append(weakref.ref(body))
    raise Unavailable("too much", retry_after_s=1, answer_after_s=5.0)


@pytest.mark.anyio
async def test_a_refusal_that_is_held_back_holds_no_body() -> None:
    bodies: list[weakref.ref[_Body]] = []
    held: list[object] = []

    async def receive() -> dict[str, str]:
        held.append(bodies[0]())
        return {"type": "http.disconnect"}

    try:
        await _refused(bodies)
    except Unavailable as error:
        await on_problem(Request({"type": "http"}, receive), error)

    assert held == [None]
