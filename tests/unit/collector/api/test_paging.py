"""JSON arrays of a bounded size."""

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from brain_collector.api.paging import encode_within


@given(st.lists(st.text(max_size=20)), st.integers(1, 200))
def test_an_array_has_as_many_items_as_fit_but_at_least_one(items: list[Any], max_bytes: int) -> None:
    n, parts = encode_within(iter(items), max_bytes)

    array = b"".join(parts)
    assert array == msgspec.json.encode(items[:n])
    assert n == len(items) or len(msgspec.json.encode(items[: n + 1])) > max_bytes
    assert len(array) <= max_bytes or n <= 1
    assert n > 0 or not items
