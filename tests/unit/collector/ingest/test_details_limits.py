"""The limits of details: what they become is bounded, and the fast check agrees with the exact one."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from brain_collector.ingest.details_limits import DetailsLimits, check_value, parse_exactly
from brain_collector.ingest.limits import EventRejected, Limits
from brain_events.wire import DETAILS_MAX_VALUES

LIMITS = Limits(4_096, 5, details_keys=6, details_values=20, key_chars=8)

numbers = st.from_regex(r"-?(0|[1-9][0-9]{0,4})(\.[0-9]{1,4})?([eE][-+]?[0-9]{1,3})?", fullmatch=True)
hard_numbers = st.sampled_from(
    ["1" * 1_001, "0." + "0" * 1_000, "1e309", "1e-325", "1e131071", "1E+0000000300", "-0e-308"]
)
leaves = numbers | hard_numbers | st.sampled_from(['"e99"', '"a\\"b"', "null", "true", '"' + "0" * 1_000 + '"'])
json_texts = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=8).map(lambda items: f"[{','.join(items)}]")
        | st.dictionaries(st.text("ab,{", max_size=10), inner, max_size=4).map(
            lambda items: "{" + ",".join(f"{json.dumps(key)}:{item}" for key, item in items.items()) + "}"
        )
    ),
    max_leaves=30,
)
details_texts = st.lists(json_texts, max_size=4).map(lambda items: '{"a":[' + ",".join(items) + "]}")


def outcome(details: str, event_bytes: int) -> str | None:
    """Return the code with which details are rejected, or None."""
    try:
        DetailsLimits(LIMITS).check(details, event_bytes)
    except EventRejected as rejected:
        return rejected.errors[0].code
    return None


def exact_outcome(details: str, event_bytes: int) -> str | None:
    """Return the same by the exact check alone."""
    try:
        check_value(parse_exactly(details), "/details", LIMITS, event_bytes)
    except EventRejected as rejected:
        return rejected.errors[0].code
    return None


@example('{"a":[1e300,1e300,1e300,1e300,1e300,1e300,1e300]}', 3_000)
@example('{"a":[1e-300,1e-300,1e-300,1e-300,1e-300,1e-300,1e-300]}', 3_000)
@given(details_texts, st.integers(0, 4_096))
def test_the_fast_check_lets_pass_what_the_exact_check_does(details: str, more: int) -> None:
    event_bytes = min(len(details) + more, LIMITS.event_bytes)

    assert (outcome(details, event_bytes) is None) == (exact_outcome(details, event_bytes) is None)


@given(st.lists(numbers, max_size=20), st.integers(0, 4_096))
def test_accepted_numbers_print_within_the_limit(sent: list[str], more: int) -> None:
    details = f'{{"a":[{",".join(sent)}]}}'
    event_bytes = min(len(details) + more, LIMITS.event_bytes)
    if outcome(details, event_bytes) is None:
        growth = sum(len(f"{Decimal(number):f}") - len(number) for number in sent)
        assert event_bytes + growth <= LIMITS.event_bytes + len("0.") * len(sent)


@pytest.mark.parametrize(
    ("details", "code", "pointer"),
    [
        ({"a": {"b": [1] * 30}}, "too_many_values", "/details"),
        ({"a": [{"b": 1} for _ in range(7)]}, "too_many_keys", "/details"),
        ({"a": [[[[[1]]]]]}, "too_deep", "/details/a/0/0/0/0"),
        ({"a": [1, {"k" * 9: 1}]}, "key_too_long", "/details/a/1"),
        ({"a": [], "b/c": [0, {"~": 10**1_000}]}, "number_out_of_range", "/details/b~1c/1/~0"),
    ],
)
def test_the_place_of_what_exceeds_a_limit_is_named(details: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(EventRejected) as rejected:
        DetailsLimits(LIMITS).check(json.dumps(details), 100)

    assert [(error.code, error.pointer) for error in rejected.value.errors] == [(code, pointer)]


def test_as_many_values_as_allowed_are_accepted_and_one_more_is_not() -> None:
    limits = Limits(256 * 1024, 32)
    most, more = (json.dumps({"list": [0] * n}) for n in (DETAILS_MAX_VALUES - 1, DETAILS_MAX_VALUES))

    assert DetailsLimits(limits).hold(most, len(most))
    with pytest.raises(EventRejected):
        DetailsLimits(limits).hold(more, len(more))
