"""Convert any Python value into bounded JSON data, scrub secrets by their key, and never raise.

The name of a details key tells whether its value is a secret. A value that JSON cannot carry is replaced by a constant
in brackets, which shows nothing of the value. Numbers up to 10**300 are kept; NaN becomes null in the encoder. A number
counts with all the digits that the collector will print.
"""

import math
import re
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import date, time
from enum import Enum
from functools import lru_cache
from itertools import islice
from numbers import Integral, Real
from typing import Any, Final

from brain_events.wire import DETAILS_KEY_MAX_CHARS, DETAILS_MAX_DEPTH, DETAILS_MAX_KEYS, DETAILS_MAX_VALUES

CYCLE: Final = "[cycle]"
SCRUBBED: Final = "[scrubbed]"
TOO_DEEP: Final = "[too deep]"
TRUNCATED: Final = "[truncated]"

_MAX_KEYS: Final = DETAILS_MAX_KEYS - DETAILS_MAX_DEPTH  # leaves each level room for the marker of a truncation
_MAX_VALUES: Final = DETAILS_MAX_VALUES - DETAILS_MAX_DEPTH

_SECRET = re.compile(
    r"passw(or)?d|passphrase|passcode|pwd$|secret|authorization|^auth$|auth[_-]?header|cookie|credential|jwt|[cx]srf"
    r"|(api|private|access|account|auth|encryption|functions|master|signing|ssh|subscription)[ _-]?key|host[ _-]?key$"
    r"|session[_-]?(id|key)|connect\.sid|signature$|^(pin|otp|sig|cvv|cvc)$|(^|_)(pass|pw|auth)$"
    r"|token$|(access|auth|api|bearer|id|refresh|session)[_-]?tokens$",
    re.IGNORECASE,
)
"""Matches `token` only at the end: `input_tokens` and `token_count` are numbers that people want to see.

Short words are whole names, or the last word of one: `pass` and `db_pass`, but neither `passed` nor `bypass`.
"""

COUNT_MAX_DIGITS: Final = 4

_CACHED_MAX_CHARS = 64  # longer details keys are not cached, so that the cache holds at most 64 KiB

_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_INT = 10**300  # fits into a double; many JSON readers refuse a larger number


def is_secret(key: str) -> bool:
    """Return whether a value under this details key must be scrubbed."""
    return (_is_secret if len(key) <= _CACHED_MAX_CHARS else _is_secret.__wrapped__)(key)


def may_be_count(name: str) -> bool:
    """Return whether a small number under this name of a secret is harmless, as in `{"pass": 12, "fail": 3}`."""
    return name.lower().endswith(("pass", "sig"))


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def is_a(value: Any, kind: type) -> bool:
    """Return what `isinstance` returns, but never raise: the object's own `__class__` is not read."""
    return issubclass(type(value), kind)


def name_of(kind: type) -> str:
    """Return the full name of a class, even of one whose metaclass raises."""
    module, name = type.__getattribute__(kind, "__module__"), type.__getattribute__(kind, "__qualname__")
    return f"{module}.{name}"


def sanitize(value: Any, max_chars: int, allowed_keys: frozenset[str] = frozenset()) -> Any:
    """Return `value` as JSON data of about `max_chars` characters; values under `allowed_keys` are not scrubbed."""
    return _Walk(max_chars, allowed_keys).clean(value, 0)


def to_text(value: Any, max_chars: int) -> str:
    """Return `value` as a str that JSON and Postgres can store, truncated to about `max_chars`."""
    walk = _Walk(max_chars)
    return walk.text(value if is_a(value, str) else walk.describe(value))


class _Reentry(threading.local):
    """Set while this thread runs code of the application, such as a `__str__`, which may itself log an event."""

    active = False


_reentry = _Reentry()


class _Walk:
    """One walk over one value: the remaining room in characters, and the containers on the current path."""

    def __init__(self, max_chars: int, allowed_keys: frozenset[str] = frozenset()) -> None:
        self.room = max_chars
        self.allowed_keys = allowed_keys
        self.keys = _MAX_KEYS
        self.values = _MAX_VALUES
        self.inside: set[int] = set()

    def clean(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if kind is str:
            return self.text(value)
        self.room -= 5
        if kind is float:
            return self.real(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return self.integer(value)
        if kind is dict or kind is list or kind is tuple:
            return self.nested(value, value, depth)
        return self.foreign(value, depth)

    def text(self, value: str) -> str:
        text = str.__str__(value)  # the exact str of a subclass
        if len(text) > self.room:
            text = text[: max(self.room, 0)] + TRUNCATED
        self.room -= len(text) + 3
        if "\0" in text:  # Postgres has no NUL
            text = text.replace("\0", "\ufffd")
        if not text.isascii() and _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return text

    def real(self, value: float) -> float:
        if not 1e-4 <= value < 1e16 and value and math.isfinite(value):  # between these, it has no exponent
            self.room -= 2 * abs(int(math.log10(abs(value))))  # twice: the message may take half of an event
        return value

    def integer(self, value: int) -> int | str:
        self.room -= value.bit_length() // 4
        return value if -_MAX_INT < value < _MAX_INT else f"[integer of {value.bit_length()} bits]"

    def nested(self, value: Any, plain: Any, depth: int) -> Any:
        """Clean `plain`, a plain copy of the container `value`, unless `value` is on the current path."""
        if depth >= DETAILS_MAX_DEPTH:
            return TOO_DEEP
        if id(value) in self.inside:
            return CYCLE
        self.inside.add(id(value))
        cleaned = self.mapping(plain, depth + 1) if type(plain) is dict else self.sequence(plain, depth + 1)
        self.inside.discard(id(value))
        return cleaned

    def mapping(self, value: dict[Any, Any], depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, item in list(islice(value.items(), max(self.room, 0) + 1)):
            if self.room <= 0 or self.keys == 0 or self.values == 0:
                self.room = 0  # for the enclosing lists, too: else each of their dicts would get a marker
                cleaned[TRUNCATED] = True
                break
            self.keys -= 1
            self.values -= 1
            name = self.text(key if is_a(key, str) else self.describe(key))
            scrub = is_secret(name) and self.hides(name, item)
            if len(name) > DETAILS_KEY_MAX_CHARS:
                name = name[: DETAILS_KEY_MAX_CHARS - len(TRUNCATED)] + TRUNCATED
            cleaned[name] = SCRUBBED if scrub else self.clean(item, depth)
        return cleaned

    def sequence(self, value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
        cleaned: list[Any] = []
        for item in list(islice(value, max(self.room, 0) + 1)):
            if self.room <= 0 or self.values == 0:
                self.room = 0
                cleaned.append(TRUNCATED)
                break
            self.values -= 1
            cleaned.append(self.clean(item, depth))
            if type(last := cleaned[-1]) is list and len(last) == 2:
                self.scrub_pair(last)
        return cleaned

    def hides(self, name: str, value: Any) -> bool:
        """Return whether this value of a name that marks secrets is hidden."""
        if value is None or type(value) is bool or name in self.allowed_keys:
            return False
        return not (type(value) is int and abs(value) < 10**COUNT_MAX_DIGITS and may_be_count(name))

    def scrub_pair(self, pair: list[Any]) -> None:
        """Scrub the second of two items if the first is the name of a secret, as in a list of the headers of ASGI."""
        name, value = pair
        if type(name) is str and is_secret(name) and self.hides(name, value):
            pair[1] = SCRUBBED

    def foreign(self, value: Any, depth: int) -> Any:
        """Clean a value that is not plain data."""
        plain = _guarded(_unwrap, value, self.room)
        if type(plain) in {dict, list}:
            return self.nested(value, plain, depth)
        return self.clean(plain, depth)

    def describe(self, value: Any) -> str:
        return str(_guarded(_to_str, value, self.room))


def _guarded(convert: Callable[[Any, int], Any], value: Any, room: int) -> Any:
    """Convert `value` by code of the application, which can raise, or log an event that contains `value` again."""
    name = f"<{name_of(type(value))}>"
    if _reentry.active:
        return name
    _reentry.active = True
    try:
        return convert(value, max(room, 0))
    except Exception as error:  # noqa: BLE001 -- the event is stored whatever the object raises
        return f"{name} [unreadable: {type(error).__name__}]"
    finally:
        _reentry.active = False


def _to_str(value: Any, _room: int = 0) -> str:
    return str.__str__(str(value))


def _unwrap(value: Any, room: int) -> Any:  # noqa: PLR0911 -- one return for each kind of value
    """Return one layer of a foreign object as an exact str, int, float, list or dict."""
    match value:
        case Enum():
            return value.value if type(value.value) in {str, int, float} else str(value)
        case str():
            return str.__str__(value)
        case Mapping():
            return dict(islice(value.items(), room + 1))
        case list() | tuple() | set() | frozenset() | deque():
            return list(islice(value, room + 1))
        case bytes() | bytearray() | memoryview():
            return bytes(value[:room]).decode("utf-8", "backslashreplace")
        case date() | time():
            return value.isoformat()
        case Integral():
            return int(value)
        case Real():
            return float(value)
        case BaseException():
            return f"{type(value).__qualname__}: {value}"
    names = () if isinstance(value, type) else _field_names(type(value))
    return {name: getattr(value, name, None) for name in names} if names else _to_str(value)


def _field_names(kind: type) -> tuple[str, ...]:
    """Return the fields of a dataclass, a msgspec Struct, a pydantic model or an attrs class."""
    for attribute in ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__"):
        if fields := getattr(kind, attribute, None):
            return tuple(fields)
    return tuple(field.name for field in getattr(kind, "__attrs_attrs__", ()))
