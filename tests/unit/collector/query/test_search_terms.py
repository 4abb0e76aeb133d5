"""Search terms: what is a term, and how many there may be."""

import pytest

from brain_collector.errors import ParameterInvalid
from brain_collector.query.search_terms import MAX_TERMS, Term, parse


def test_repeated_terms_and_groups_are_dropped() -> None:
    assert parse("a A a or b -a or a") == parse("a or b -a")
    assert parse("a " * 100).groups == ((Term(("a",)),),)
    assert parse('"a b" a-b').groups == ((Term(("a", "b")),),)


def test_the_number_of_different_terms_is_limited() -> None:
    words = [f"w{n}" for n in range(MAX_TERMS + 1)]
    assert len(parse(" ".join(words[:-1])).groups[0]) == MAX_TERMS
    assert len(parse(" or ".join(words[:-1]) + " or w0").groups) == MAX_TERMS
    for text in (" ".join(words), " or ".join(words)):
        with pytest.raises(ParameterInvalid, match="17 different terms, at most 16"):
            parse(text)


def test_a_phrase_is_one_term() -> None:
    assert len(parse('"' + " ".join("abcdefghijklmnopqrstuvwxyz") + '"').groups[0]) == 1
