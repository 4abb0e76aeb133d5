"""The keyed hash of a request, and the verdict on a row that was there before."""

from typing import NamedTuple
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from brain_collector.ingest.duplicates import KeyUse, Verdict, compare, fingerprint_of, key_of_caller, request_hash

SECRET, OTHER_SECRET = b"s" * 32, b"t" * 32
A_KEY = uuid4()
USES = st.builds(
    KeyUse,
    st.sampled_from([A_KEY, uuid4()]),
    st.sampled_from(["open", "key:aaaaaaaa"]),
    st.builds(fingerprint_of, st.sampled_from([b"{}", b"[]", b"{}\n"]), st.sampled_from(["event", "lines", "array"])),
)


class Row(NamedTuple):
    digest: int
    request_hash: UUID | None
    caller: str | None
    first_id: int


def row_of(use: KeyUse, first_id: int = 1) -> Row:
    return Row(use.fingerprint.digest, request_hash(SECRET, use), use.caller, first_id)


@given(one=USES, two=USES)
def test_requests_have_one_hash_if_and_only_if_key_kind_and_body_are_the_same(one: KeyUse, two: KeyUse) -> None:
    is_same = (one.key, one.fingerprint) == (two.key, two.fingerprint)

    assert (request_hash(SECRET, one) == request_hash(SECRET, two)) == is_same
    assert request_hash(SECRET, one) != request_hash(OTHER_SECRET, one)


@given(one=USES, two=USES)
def test_a_derived_key_is_of_key_and_caller_and_cannot_be_found_without_the_secret(one: KeyUse, two: KeyUse) -> None:
    is_same = (one.key, one.caller) == (two.key, two.caller)

    assert (key_of_caller(SECRET, one) == key_of_caller(SECRET, two)) == is_same
    assert len({one.key, key_of_caller(SECRET, one), key_of_caller(OTHER_SECRET, one), request_hash(SECRET, one)}) == 4


@given(one=USES, two=USES)
def test_only_the_caller_that_used_a_key_is_told_so(one: KeyUse, two: KeyUse) -> None:
    two = two._replace(key=one.key)
    verdict = compare(row_of(two, 2), row_of(one, 1))

    if one.fingerprint == two.fingerprint:
        assert verdict is Verdict.DUPLICATE
    else:
        assert verdict is (Verdict.REUSED if one.caller == two.caller else Verdict.TAKEN)
    assert compare(row_of(one, 1), row_of(one, 1)) is Verdict.STORED


@given(one=USES, two=USES)
def test_a_row_of_the_release_before_is_compared_by_its_checksum(one: KeyUse, two: KeyUse) -> None:
    old = row_of(one, 1)._replace(request_hash=None, caller=None)
    is_same = one.fingerprint.digest == two.fingerprint.digest

    assert compare(row_of(two, 2), old) is (Verdict.DUPLICATE if is_same else Verdict.REUSED)
