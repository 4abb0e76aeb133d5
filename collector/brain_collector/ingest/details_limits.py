"""The limits of details, which apply to their decoded, indexed and printed form, not to how they are written.

`1e308` is 5 bytes as JSON, and 309 as Postgres prints it; `[0,0]` is 2 bytes a value, and many times that in memory.
`hold` is fast and certain, but not exact: what it does not let pass, `check` examines exactly.
"""

import json
import re
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec

from brain_collector.ingest.limits import Limits, reject

EXPONENTS: Final = range(-324, 309)
"""The exponents of doubles (IEEE 754); the smallest positive one is 5e-324."""
MAX_DIGITS: Final = 1_000  # clients in Python can read at most 4,300
MAX_POINTER_CHARS: Final = 200

_GAIN: Final = 62
"""No character of JSON becomes more characters than this, when numbers within EXPONENTS are printed."""
_MANY_DIGITS: Final = b"0" * MAX_DIGITS
_DIGITS_TO_0: Final = bytes.maketrans(b"123456789.E", b"0000000000e")
_EXPONENT: Final = re.compile(r"[eE]([-+]?[0-9]+)")


@lru_cache(maxsize=8)
def details_limits(limits: Limits) -> "DetailsLimits":
    """Return the limits of details among the limits of an event."""
    return DetailsLimits(limits)


class DetailsLimits:
    """The limits that details must not exceed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._depth = limits.details_depth
        # Details up to this length have too few keys, values and exponents to exceed a limit.
        self._short = min(
            limits.key_chars, 4 * limits.details_keys, 2 * limits.details_values, limits.event_bytes // 128
        )
        self._small_event = limits.event_bytes - _GAIN * self._short

    def hold(self, details: str, event_bytes: int) -> bool:
        """Return whether details are an object that is certainly within the limits.

        Raises:
            EventRejected: they exceed a limit.
        """
        if details[0] != "{":
            return False
        if len(details) > self._short or event_bytes > self._small_event:
            return self._measure(details, event_bytes)
        return details.count("{") + details.count("[") <= self._depth and not _may_have_huge_number(details)

    def check(self, details: str, event_bytes: int, *, is_doubtful: bool = False) -> None:
        """Check details exactly; if `hold` has not let them pass already (`is_doubtful`), do not ask it again.

        Raises:
            EventRejected: they exceed a limit.
        """
        if is_doubtful or not self.hold(details, event_bytes):
            check_value(parse_exactly(details), "/details", self._limits, event_bytes)

    def _measure(self, details: str, event_bytes: int) -> bool:
        """Return whether details are certainly within the limits, by decoding them."""
        if _MANY_DIGITS in details.encode().translate(_DIGITS_TO_0):
            return False
        numbers: list[str] = []  # as text: to decode a number such as 1e290 takes 16 us
        try:
            value = msgspec.json.Decoder(float_hook=numbers.append).decode(details)
        except (msgspec.MsgspecError, RecursionError):
            return False
        check_value(value, "/details", self._limits, event_bytes)
        exponents = [int(exponent) for exponent in _EXPONENT.findall(" ".join(numbers))]
        if not exponents:
            return True
        if min(exponents) not in EXPONENTS or max(exponents) not in EXPONENTS:
            return False
        if event_bytes + sum(map(abs, exponents)) > self._limits.event_bytes:
            reject_digits(self._limits)
        return True


def _may_have_huge_number(details: str) -> bool:
    """Return whether a number may have too many digits, or an exponent out of range.

    A scan for the shape of such a number takes 0.2 us; only text with this shape is decoded, as some hexadecimal ids.
    """
    shape = details.encode().translate(_DIGITS_TO_0, b"+-")
    if len(shape) > MAX_DIGITS and _MANY_DIGITS in shape:
        return True
    if b"0e000" not in shape:
        return False
    try:
        _numbers.decode(details)
    except (msgspec.MsgspecError, RecursionError):
        return True
    return False


def _check_exponent(number: str) -> float:
    if int(number.lower().partition("e")[2] or 0) not in EXPONENTS:
        raise ValueError(number)
    return 0.0


_numbers: Final = msgspec.json.Decoder(float_hook=_check_exponent)


class Number(str):
    """A JSON number, as it is written."""

    __slots__ = ()


class Constant(str):
    """`NaN`, `Infinity` or `-Infinity`, which are not JSON."""

    __slots__ = ()


_parse: Final = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Constant).decode


def parse_exactly(text: str) -> Any:
    """Decode JSON; numbers remain text, so that they cost nothing and keep every digit.

    Raises:
        EventRejected: it is not JSON, or nested too deeply for any reader.
    """
    try:
        return _parse(text)
    except RecursionError:
        reject("", "too_deep", "the event is nested too deeply")
    except ValueError as error:
        reject("", "not_json", f"the event is not valid JSON: {error}")


def check_value(value: Any, pointer: str, limits: Limits, event_bytes: int) -> None:
    """Check a value: its depth, keys and values; if it is one of `parse_exactly`, its numbers too.

    Raises:
        EventRejected: it exceeds a limit; the error has the JSON pointer of a place where it does.
    """
    _Walk(limits, pointer, event_bytes).visit(value)


class _Walk:
    """One walk through a value, level by level. The pointer to a place is computed only for a rejection."""

    def __init__(self, limits: Limits, pointer: str, event_bytes: int) -> None:
        self.limits = limits
        self.pointer = pointer
        self.room = limits.event_bytes - event_bytes
        self.n_keys = 0
        self.n_values = 0
        self.levels: list[list[Any]] = []

    def visit(self, value: Any) -> None:
        level = [value]
        while level:
            self.levels.append(level)
            if len(self.levels) > self.limits.details_depth:
                self._refuse_containers(level)
            level = self._values_in(level)
            self.n_values += len(level)
            if self.n_values > self.limits.details_values:
                reject_values(self.limits)

    def _values_in(self, level: list[Any]) -> list[Any]:
        """Return the values in the objects and arrays of a level, and check its keys and numbers."""
        inner: list[Any] = []
        for value in level:
            kind = type(value)
            if kind is list:
                inner += value
            elif kind is dict:
                self._check_keys(value)
                inner += value.values()
            elif kind is Number:
                if len(value) > MAX_DIGITS or "e" in value or "E" in value:
                    self._check_number(value)
            elif kind is Constant:
                self._reject("not_a_number", f"{value} is not a JSON number; send null, or a string", value)
        return inner

    def _refuse_containers(self, level: list[Any]) -> None:
        for value in level:
            if type(value) is dict or type(value) is list:
                self._reject("too_deep", f"details are nested deeper than {self.limits.details_depth} levels", value)

    def _check_keys(self, value: dict[str, Any]) -> None:
        limits = self.limits
        self.n_keys += len(value)
        if self.n_keys > limits.details_keys:
            reject_keys(limits)
        if value and len(key := max(value, key=len)) > limits.key_chars:
            detail = f"the details key {key[:20]!r}... has {len(key):,} characters, the maximum is {limits.key_chars:,}"
            self._reject("key_too_long", detail, value)

    def _check_number(self, number: str) -> None:
        mantissa, _, exponent = number.lower().partition("e")
        code = "number_out_of_range"
        if len(mantissa) > MAX_DIGITS or len(exponent) > MAX_DIGITS:
            detail = f"a number has {len(number):,} characters, the maximum is {MAX_DIGITS:,} digits"
            self._reject(code, detail, number)
        if int(exponent) not in EXPONENTS:
            shown = f"{number[:20]}{'...' * (len(number) > 20)}"
            self._reject(code, f"the number {shown} is out of range: exponents are from -324 to 308", number)
        self.room -= abs(int(exponent))
        if self.room < 0:
            reject_digits(self.limits)

    def _reject(self, code: str, detail: str, value: Any) -> NoReturn:
        """Reject the event for a value of the last level, with the JSON pointer of that value."""
        *levels, last = self.levels
        index = next(index for index, item in enumerate(last) if item is value)
        path: list[str] = []
        for level in reversed(levels):
            index, key = _place_of(index, level)
            path.append(key)
        pointer = self.pointer
        for key in reversed(path):
            pointer = child_pointer(pointer, key)
        reject(pointer, code, detail)


def reject_keys(limits: Limits) -> NoReturn:
    """Reject an event whose details have too many keys."""
    reject("/details", "too_many_keys", f"details have more than {limits.details_keys:,} keys")


def reject_values(limits: Limits) -> NoReturn:
    """Reject an event whose details have too many values."""
    reject("/details", "too_many_values", f"details have more than {limits.details_values:,} values")


def reject_digits(limits: Limits) -> NoReturn:
    """Reject an event whose numbers, as Postgres prints them, would make it too large."""
    detail = (
        "the numbers in the details, written out without exponents, would make the event larger than the maximum of "
        f"{limits.event_bytes:,} bytes; send smaller exponents, or strings"
    )
    reject("/details", "too_many_digits", detail)


def _place_of(index: int, level: list[Any]) -> tuple[int, str]:
    """Return the index of the container of a value in this level, and the key or index of the value in it.

    The value has an index in the level below, which has the values of all containers in order.
    """
    for container_index, container in enumerate(level):
        kind = type(container)
        if kind is list or kind is dict:
            if index < len(container):
                return container_index, str(index if kind is list else [*container][index])
            index -= len(container)
    raise AssertionError(index)


def child_pointer(pointer: str, key: str) -> str:
    """Return the JSON pointer to a child (RFC 6901), or the pointer itself if that would be too long."""
    step = key.replace("~", "~0").replace("/", "~1")
    return f"{pointer}/{step}" if len(pointer) + len(step) < MAX_POINTER_CHARS and step.isprintable() else pointer
