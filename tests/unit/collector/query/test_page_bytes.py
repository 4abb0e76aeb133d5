"""The first events of a page: as many as fit, at least one."""

from datetime import UTC, datetime, timedelta

import msgspec

from brain_collector.query.cursor import position_of
from brain_collector.query.page_bytes import EVENT_BYTES, cut
from brain_collector.schema import Event

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def stored(id: int, size: int) -> Event:
    moment = NOW + timedelta(seconds=id)
    return Event(id, "t", "info", "é" * (size // 2), msgspec.Raw(b'"' + b"x" * (size - 2) + b'"'), None, moment, moment)


def test_a_page_ends_before_the_event_that_does_not_fit() -> None:
    events = [stored(id, 1_000) for id in (4, 3, 2, 1)]
    size = 2_000 + EVENT_BYTES
    assert cut(events, 4 * size) == (events, None)
    assert cut(events, 4 * size - 1) == (events[:3], position_of(events[2]))
    assert cut(events, 2 * size) == (events[:2], position_of(events[1]))


def test_an_event_that_is_too_large_is_a_page_by_itself() -> None:
    events = [stored(2, 1_000), stored(1, 10)]
    assert cut(events, 1) == (events[:1], position_of(events[0]))
    assert cut(events[:1], 1) == (events[:1], None)
    assert cut([], 1) == ([], None)
