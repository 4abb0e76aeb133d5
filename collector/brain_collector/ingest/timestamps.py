"""Timestamps as they are sent: RFC 3339, or a number of seconds, milliseconds, microseconds or nanoseconds since 1970.

The size of a number tells its unit: for every time from 1973 to 5138, only one unit gives a number of that size.
"""

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Final

import msgspec

from brain_collector.schema import MAX_EPOCH

EPOCH_LIMIT: Final = 10**11
"""A number below this is in seconds; each of the next three factors of 1,000 is for the next smaller unit."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER: Final = re.compile(r"-?[0-9]{1,20}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?")
_LEAP_SECOND: Final = re.compile(r"(?<=[Tt ]\d\d:59):60")
_BELOW_MICROSECONDS: Final = re.compile(r"(\.\d{6})\d+")


def timestamp_of(text: str) -> datetime | None:
    """Return the time that a text denotes, in UTC if it has no offset; None if it denotes no time.

    A leap second becomes the first second of the next minute. Fractions are rounded to the nearest microsecond, as the
    decoder of JSON does.
    """
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return _of_number(text)
    try:
        moment = _of_text(text)
    except (msgspec.ValidationError, UnicodeEncodeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def has_leap_second(text: str) -> bool:
    """Return whether a timestamp has a leap second, which is not stored as it was sent."""
    return _LEAP_SECOND.search(text) is not None


def _of_text(text: str) -> datetime:
    if _LEAP_SECOND.search(text):
        return _of_text(_LEAP_SECOND.sub(":59", text)) + timedelta(seconds=1)
    try:
        return msgspec.convert(text, datetime)
    except msgspec.ValidationError:  # perhaps because it would be rounded to the year 10000
        return msgspec.convert(_BELOW_MICROSECONDS.sub(r"\1", text, count=1), datetime)


def _of_number(text: str) -> datetime | None:
    number = Decimal(text)
    if not 0 <= number < MAX_EPOCH:
        return None
    per_second = 1
    while number >= EPOCH_LIMIT * per_second:
        per_second *= 1_000
    microseconds = (number * 1_000_000 / per_second).to_integral_value(ROUND_HALF_UP)
    return _EPOCH + timedelta(microseconds=int(microseconds))
