"""The tally of counts that come part by part: every number it names is exact, however many values there are."""

from collections import Counter
from collections.abc import Collection

from hypothesis import given
from hypothesis import strategies as st

from brain_collector.counts.tally import Tally

MOST = 3
part = st.dictionaries(st.tuples(st.integers(0, 2), st.sampled_from([None, *"abcdefgh"])), st.integers(1, 9))


def leading(
    groups: dict[tuple[int, str | None], int], known: Collection[str | None] | None
) -> list[tuple[object, ...]]:
    """Return the rows that Postgres returns for a part."""
    totals = Counter[str | None]()
    for (_, value), n in groups.items():
        totals[value] += n
    frequent = sorted(totals, key=lambda value: (-totals[value], str(value)))[:MOST]
    listed = frequent if known is None else known
    rows = Counter[tuple[bool, int, str | None]]()
    for (start, value), n in groups.items():
        rows[value in listed, start, value if value in listed else None] += n
    buckets: dict[tuple[bool, str | None], dict[int, int]] = {}
    for (is_listed, start, value), n in rows.items():
        buckets.setdefault((is_listed, value), {})[start] = n
    return [("f", *row, list(counts), list(counts.values())) for row, counts in buckets.items()]


@given(parts=st.lists(part, max_size=6))
def test_every_number_is_exact_and_nothing_is_missing(parts: list[dict[tuple[int, str | None], int]]) -> None:
    tally = Tally(["f"], MOST)
    for groups in parts:
        rows = leading(groups, tally.known.get("f"))
        if tally.is_cut(rows):
            rows = leading(groups, tally.known["f"])
        tally.add(rows)

    expected: dict[str | None, Counter[int]] = {}
    for groups in parts:
        for (start, value), n in groups.items():
            expected.setdefault(value, Counter())[start] += n
    counts = tally.counts["f"]
    assert len(counts.listed) <= MOST
    assert counts.listed == {value: expected[value] for value in counts.listed}
    assert counts.total == sum(each.total() for each in expected.values())
    others = sum((each for value, each in expected.items() if value not in counts.listed), Counter[int]())
    assert +counts.rest == others


def test_few_values_are_all_listed() -> None:
    tally = Tally(["f"], MOST)
    parts: list[dict[tuple[int, str | None], int]] = [{(0, "a"): 1, (0, None): 2}, {(1, "b"): 5, (1, "a"): 1}]
    for groups in parts:
        rows = leading(groups, None)
        assert not tally.is_cut(rows)
        tally.add(rows)

    assert tally.counts["f"] == ({"a": Counter({0: 1, 1: 1}), None: Counter({0: 2}), "b": Counter({1: 5})}, Counter())
