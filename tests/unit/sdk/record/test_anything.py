"""Forgiving at the door: whatever is logged, a valid event within the limits arrives."""

import json
import math
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from itertools import count
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from brain_collector.ingest.decode import decode_ndjson
from brain_collector.ingest.limits import Limits
from brain_events import Client, bound
from brain_events._delivery.drop_report import REPORT_TYPE
from brain_events._queue.batch import unseal
from brain_events._record.sanitize import CYCLE, SCRUBBED, TOO_DEEP, TRUNCATED, is_secret
from brain_events.testing import MemoryTransport
from brain_events.wire import (
    DETAILS_KEY_MAX_CHARS,
    DETAILS_MAX_DEPTH,
    DETAILS_MAX_VALUES,
    EVENT_TYPE_MAX_CHARS,
    SEVERITIES,
    SOURCE_MAX_CHARS,
    Event,
)
from tests.support.effort import times
from tests.support.sdk import fast_client
from tests.support.waiting import PATIENCE_S

MAX_EVENT_BYTES = 2048
COLLECTOR_LIMITS = Limits(event_bytes=256 * 1024, details_depth=32)  # its defaults
ARGUMENTS = ["event_type", "severity", "message", "details", "source", "timestamp", "exc_info"]


class Color(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Severity(StrEnum):
    ERROR = "error"


class Text(str):
    __slots__ = ()


@dataclass
class Point:
    x: int
    password: str = "hunter2"


class Record(msgspec.Struct):
    name: str


class Hostile:
    """Raises wherever it is touched."""

    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError(name)

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class HostileMapping(Mapping[str, int]):
    def __getitem__(self, key: str) -> int:
        raise ZeroDivisionError

    def __iter__(self) -> Iterator[str]:
        raise ZeroDivisionError

    def __len__(self) -> int:
        return 3


class HostileZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise ZeroDivisionError

    dst = tzname = utcoffset  # type: ignore[assignment]


def cyclic() -> dict[str, Any]:
    value: dict[str, Any] = {"name": "loop"}
    value["self"] = [value]
    return value


def nested(depth: int) -> Any:
    value: Any = "bottom"
    for _ in range(depth):
        value = {"in": value}
    return value


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except Exception:
        return False
    return True


ODDITIES: list[Any] = [
    HostileMapping(),
    Hostile,
    Color.RED,
    Level.HIGH,
    Text("text"),
    Point(1),
    Record("n"),
    OrderedDict(a=1),
    UserDict(a=1),
    deque([1]),
    {1, 2},
    b"\xff\x00bytes",
    memoryview(b"abc"),
    2**64,
    -(10**5000),
    10**400,
    math.nan,
    -math.inf,
    1j,
    "\ud800 lone",
    "nul \0",
    'quote " backslash \\ \\u0000',
    datetime(2026, 1, 1),  # noqa: DTZ001
    datetime.max,  # noqa: DTZ901
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime(2026, 1, 1, tzinfo=HostileZone()),
    date(2026, 1, 1),
    Decimal("1.5"),
    UUID(int=1),
    PurePosixPath("/a"),
    ValueError("bad"),
    cyclic(),
    nested(100),
    print,
    range(10**12),
    count(),
    10**3999,
    5e-324,
    "\x01\x7f\x80\u2028\uffff\U0010ffff",
    {"a\0b": 1},
    -62135596800,
    "0001-01-01T00:00:00Z",
]
oddities = st.integers(0, len(ODDITIES) - 1).map(lambda n: ODDITIES[n])  # hypothesis must not repr them
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.datetimes() | oddities
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(scalars.filter(_is_hashable), inner),
    max_leaves=20,
)


def line_of(memory: MemoryTransport) -> bytes:
    return unseal(memory.attempts[-1])[-1]


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def check(line: bytes) -> Event:
    event = msgspec.json.decode(line, type=Event)
    assert len(line) <= MAX_EVENT_BYTES
    assert 1 <= len(event.event_type) <= EVENT_TYPE_MAX_CHARS
    assert event.severity in SEVERITIES
    assert event.source is None or 1 <= len(event.source) <= SOURCE_MAX_CHARS
    assert event.timestamp is not None
    assert event.timestamp.tzinfo is not None
    assert "\0" not in str(msgspec.to_builtins(event))
    assert depth_of(event.details) <= DETAILS_MAX_DEPTH + 1
    return event


@settings(max_examples=times(80))
@given(anything, anything, anything, anything, anything, anything, anything)
@example("a" * 60, "fatal", "m" * 5000, {"k": "v" * 5000}, "s" * 200, None, None)
@example("a", "info", "\x01" * 5000, {"\x02" * 999: 1}, None, None, None)
@example("a", "info", "m", {"password": "x"}, None, None, 1)
def test_any_arguments_at_all_lead_to_a_valid_event(
    event_type: Any, severity: Any, message: Any, details: Any, source: Any, timestamp: Any, exc_info: Any
) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory, max_event_bytes=MAX_EVENT_BYTES) as client:
        for _ in range(2):  # the second time, the shape may be known
            client.log(event_type, severity, message, details, source=source, timestamp=timestamp, exc_info=exc_info)
        assert client.flush(PATIENCE_S)
        assert client.stats().delivered == 2
    assert stored(memory) == 2


@pytest.mark.parametrize(
    "details",
    [
        pytest.param({str(n): n for n in range(5_000)}, id="on one level"),
        pytest.param({"list": [{"a": 1, "b": 2} for _ in range(5_000)]}, id="in a list"),
        pytest.param({"lists": [[{str(n): {"a": n}}] for n in range(5_000)]}, id="in lists of lists"),
        pytest.param({"k" * (DETAILS_KEY_MAX_CHARS + 1): 1, "password" * 100: "hidden"}, id="long keys"),
        pytest.param({"list": [0] * (DETAILS_MAX_VALUES + 1)}, id="a long list"),
        pytest.param({"lists": [[0] * 100 for _ in range(1_000)]}, id="many lists"),
        pytest.param({"floats": [1e300, -1e300, 1e-300] * 1_000}, id="numbers that print long"),
    ],
)
def test_the_collector_takes_details_that_become_too_much(details: dict[str, Any]) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory, max_event_bytes=COLLECTOR_LIMITS.event_bytes) as client:
        client.log("a", "info", "m", details)
        assert client.flush(PATIENCE_S)
    (batch,) = memory.attempts
    (line,) = unseal(batch)
    assert decode_ndjson(line, COLLECTOR_LIMITS, datetime.now(UTC)).errors == []
    assert TRUNCATED in line.decode()
    assert "hidden" not in line.decode()


def stored(memory: MemoryTransport) -> int:
    """Return how many events the collector takes of what was sent; it must refuse none."""
    count = 0
    for batch in memory.attempts:
        lines = unseal(batch)
        for line in lines:
            check(line)
        decoded = decode_ndjson(b"\n".join(lines), COLLECTOR_LIMITS, datetime.now(UTC))
        assert decoded.errors == []
        count += decoded.received
    return count


def linked(errors: list[BaseException], links: list[int]) -> BaseException:
    """Return the first of `errors`, tied to others as causes, contexts and members, in cycles too."""
    for n, link in enumerate(links):
        error, other = errors[n % len(errors)], errors[link % len(errors)]
        if link % 3 == 0:
            error.__cause__ = other
        elif link % 3 == 1:
            error.__context__ = other
        else:
            errors.append(BaseExceptionGroup(str(link), [error, other]))
    return errors[-1]


kinds = st.sampled_from([ValueError, KeyError, OSError, UnicodeError, SystemExit, StopIteration])
exceptions = st.builds(
    linked,
    st.lists(st.builds(lambda kind, *args: kind(*args), kinds, anything), min_size=1, max_size=5),
    st.lists(st.integers(0, 30), max_size=8),
)


@settings(max_examples=times(60))
@given(anything, anything, exceptions, st.dictionaries(st.text(max_size=60), anything, max_size=4))
def test_any_exception_and_any_bound_fields_lead_to_a_valid_event(
    message: Any, details: Any, error: BaseException, fields: dict[str, Any]
) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory, max_event_bytes=MAX_EVENT_BYTES) as client, bound(**fields):
        client.log("t", "error", message, details, exc_info=error)
        client.log("t", "error", message, details, exc_info=(type(error), error, None))
        for _ in range(2):
            client.log("t", "error", message, details)
        assert client.flush(PATIENCE_S)
    assert stored(memory) == 4


def rewrite(fields: dict[str, Any]) -> Callable[[Event], Any]:
    """Return a hook that sets fields of an event, drops it (no fields at all), or fails (an unknown field)."""

    def hook(event: Event) -> Event | None:
        for name, value in fields.items():
            setattr(event, name, value)
        return event if fields else None

    return hook


@settings(max_examples=times(60))
@given(anything, st.dictionaries(st.sampled_from([*Event.__struct_fields__, "unknown"]), anything))
def test_whatever_a_hook_returns_a_valid_event_arrives_or_none(details: Any, fields: dict[str, Any]) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory, max_event_bytes=MAX_EVENT_BYTES, before_send=rewrite(fields)) as client:
        for _ in range(2):
            client.log("t", "info", "m", details)
        assert client.flush(PATIENCE_S)
        dropped = client.stats().dropped
    memory.attempts = [batch for batch in memory.attempts if REPORT_TYPE.encode() not in unseal(batch)[0]]
    expected = 0 if not fields or "unknown" in fields else 2
    assert stored(memory) == expected
    assert dropped == ({} if expected else {"before_send": 2})


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_oddity_in_any_one_place_is_no_trouble(memory: MemoryTransport, name: str) -> None:
    with fast_client(transport=memory, max_event_bytes=MAX_EVENT_BYTES) as client:
        for oddity in ODDITIES:
            for value in [oddity, {"key": oddity}, {"key": [oddity]}] if name == "details" else [oddity]:
                for _ in range(2):
                    logged(client, memory, **{name: value})
                    check(line_of(memory))


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_object_that_raises_wherever_it_is_touched_is_no_trouble(
    client: Client, memory: MemoryTransport, name: str
) -> None:
    with bound(request_id="r1"):
        event = logged(client, memory, **{name: Hostile()})
    assert event.details is not None
    assert event.details["request_id"] == "r1"


plain = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=50)


@given(
    names.map(str.strip).filter(bool),
    st.sampled_from(SEVERITIES),
    texts,
    st.dictionaries(names.filter(lambda name: not is_secret(name)), plain | texts, max_size=8),
    st.datetimes(timezones=st.just(UTC)),
)
def test_a_valid_event_arrives_as_it_was_logged(
    event_type: str, severity: str, message: str, details: dict[str, Any], timestamp: datetime
) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory, source="shop") as client:
        for _ in range(2):  # once the forgiving way, once the short one
            client.log(event_type, severity, message, details, timestamp=timestamp)
    expected = Event(event_type, severity, message, details or None, "shop", timestamp)
    assert memory.events == [expected, expected]


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def same(first: Any, second: Any) -> bool:
    """Tell whether two values are equal in type too, which 1, 1.0 and True are not."""
    if type(first) is not type(second) or type(first) not in {dict, list}:
        return type(first) is type(second) and bool(first == second)
    if len(first) != len(second):
        return False
    pairs = [*zip(first, second, strict=True)]  # of items, or of keys in their order
    if type(first) is dict:
        pairs += zip(first.values(), second.values(), strict=True)
    return all(same(one, other) for one, other in pairs)


@settings(max_examples=times(100))
@given(st.dictionaries(scalars.filter(_is_hashable), anything, max_size=5), st.text(), st.sampled_from(["t", "\u2028"]))
@example({"float": [1e308, 5e-324, -0.0, 1e16, 0.1], "int": [2**53 + 1, -(2**63), 2**64, 10**299]}, "m", "t")
@example({"nan": [math.nan, -math.nan, math.inf, {"deep": -math.inf}], "plain": math.nan}, "m", "t")
def test_a_line_is_strict_json_and_reads_the_same_with_the_standard_library(
    details: dict[Any, Any], message: str, event_type: str
) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory) as client:
        for _ in range(2):  # the second time, the shape may be known
            client.log(event_type, "info", message, details)
        assert client.flush(PATIENCE_S)
    lines = [line for batch in memory.attempts for line in unseal(batch)]
    assert len(lines) == 2
    for line in lines:
        assert same(json.loads(line.decode(), parse_constant=refuse), msgspec.json.decode(line))


json_values = st.recursive(
    plain | texts,
    lambda inner: st.lists(inner) | st.dictionaries(names.filter(lambda name: not is_secret(name)), inner),
    max_leaves=20,
)


@given(st.dictionaries(names.filter(lambda name: not is_secret(name)), json_values, min_size=1, max_size=5))
def test_details_that_are_json_are_read_as_they_were_logged(details: dict[str, Any]) -> None:
    memory = MemoryTransport()
    with fast_client(transport=memory) as client:
        client.log("t", "info", "m", details)
    (line,) = unseal(memory.attempts[-1])
    assert same(json.loads(line)["details"], json.loads(json.dumps(details)))


def logged(client: Client, memory: MemoryTransport, **given: Any) -> Event:
    client.log(**({"event_type": "t", "severity": "info", "message": "m"} | given))
    assert client.flush(PATIENCE_S)
    return memory.events[-1]


@pytest.mark.parametrize(
    ("given", "severity"),
    [
        ("debug", "info"), ("INFO", "info"), (" Warn ", "warning"), ("fatal", "critical"), ("exception", "error"),
        (10, "info"), (20, "info"), (30, "warning"), (40, "error"), (50, "critical"), (35, "warning"), (99, "critical"),
        (Severity.ERROR, "error"),
    ],
)  # fmt: skip
def test_a_severity_of_another_library_is_understood(
    client: Client, memory: MemoryTransport, given: Any, severity: str
) -> None:
    event = logged(client, memory, severity=given)
    assert (event.severity, event.details) == (severity, None)


def test_an_unknown_severity_is_an_error_that_says_so(client: Client, memory: MemoryTransport) -> None:
    event = logged(client, memory, severity="grave", details={"a": 1})
    assert (event.severity, event.details) == ("error", {"a": 1, "severity_given": "grave"})


@pytest.mark.parametrize("given", ["", "   ", None])
def test_a_missing_event_type_is_unspecified(client: Client, memory: MemoryTransport, given: Any) -> None:
    assert logged(client, memory, event_type=given).event_type == "unspecified"


def test_names_are_cut_to_their_limits(client: Client, memory: MemoryTransport) -> None:
    event = logged(client, memory, event_type="ä" * 60, source="ö" * 200)
    assert (event.event_type, event.source) == ("ä" * 50, "ö" * 100)


@pytest.mark.parametrize("given", [[1, "a"], "text", 7, True])
def test_details_that_are_no_dict_become_a_value(client: Client, memory: MemoryTransport, given: Any) -> None:
    assert logged(client, memory, details=given).details == {"value": given}


def test_a_naive_time_is_utc_and_another_zone_is_converted(client: Client, memory: MemoryTransport) -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    berlin = timezone(timedelta(hours=1))
    assert logged(client, memory, timestamp=noon.replace(tzinfo=None)).timestamp == noon
    assert logged(client, memory, timestamp=noon.astimezone(berlin)).timestamp == noon
    assert logged(client, memory, timestamp=noon.isoformat()).timestamp == noon
    assert logged(client, memory, timestamp=noon.timestamp()).timestamp == noon


def test_a_time_that_is_none_is_kept_as_text(client: Client, memory: MemoryTransport) -> None:
    assert logged(client, memory, timestamp="soon").details == {"timestamp_given": "soon"}


@pytest.mark.parametrize(
    ("given", "arrives"),
    [
        (math.nan, None),
        ("a\0b", "a\ufffdb"),
        ("\ud83d", "\ufffd"),
        (b"raw \xff", "raw \\xff"),
        ({3}, [3]),
        ((1, 2), [1, 2]),
        (Color.RED, "red"),
        (Level.HIGH, 3),
        (Text("text"), "text"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (PurePosixPath("/etc"), "/etc"),
        (date(2026, 1, 2), "2026-01-02"),
        (Record("n"), {"name": "n"}),
        (Point(1), {"x": 1, "password": SCRUBBED}),
        (ValueError("bad"), "ValueError: bad"),
        ({None: 1, True: 2, 3: 4}, {"None": 1, "True": 2, "3": 4}),
        (2**70, 2**70),
        (-(10**1000), "[integer of 3322 bits]"),
        (10**5000, "[integer of 16610 bits]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_that_json_lacks_becomes_the_nearest(
    client: Client, memory: MemoryTransport, given: Any, arrives: Any
) -> None:
    for _ in range(2):
        assert logged(client, memory, details={"it": given}).details == {"it": arrives}


def test_a_value_that_cannot_be_read_names_its_type(client: Client, memory: MemoryTransport) -> None:
    details = logged(client, memory, details={"it": Hostile()}).details
    assert details == {"it": f"<{__name__}.Hostile> [unreadable: ZeroDivisionError]"}


def test_a_cycle_and_great_depth_are_marked(client: Client, memory: MemoryTransport) -> None:
    assert logged(client, memory, details=cyclic()).details == {
        "name": "loop", "self": [{"name": "loop", "self": CYCLE}]
    }  # fmt: skip
    assert TOO_DEEP in str(logged(client, memory, details=nested(100)).details)


def test_what_is_too_long_is_truncated_with_a_marker(client: Client, memory: MemoryTransport) -> None:
    details = {"first": 1, "text": "x" * 100_000, "many": list(range(100_000))}
    event = logged(client, memory, message="m" * 100_000, details=details)
    assert event.message.endswith(TRUNCATED)
    assert event.details is not None
    assert event.details["first"] == 1
    assert event.details["text"].endswith(TRUNCATED)


@pytest.mark.parametrize(
    "key",
    ["password", "DB_PASSWORD", "apiKey", "api-key", "Authorization", "set-cookie", "access_token", "client_secret"],
)
def test_a_secret_known_by_its_key_never_travels(client: Client, memory: MemoryTransport, key: str) -> None:
    for details in ({key: "canary"}, {"deep": [{key: {"in": "canary"}}]}):
        for _ in range(2):
            logged(client, memory, details=details)
            assert b"canary" not in line_of(memory)
            assert SCRUBBED.encode() in line_of(memory)
    with bound(**{key: "canary"}):
        logged(client, memory, details={"a": 1})
        assert b"canary" not in line_of(memory)


def test_numbers_about_secrets_do_travel(client: Client, memory: MemoryTransport) -> None:
    details = {"input_tokens": 12, "password_set": True, "token_count": 3}
    assert logged(client, memory, details=details).details == details


def test_an_exception_arrives_with_type_message_and_traceback_but_without_locals(
    client: Client, memory: MemoryTransport
) -> None:
    try:
        local = "canary"
        _ = {"": ""}[local[6:] + "gone"]
    except KeyError as error:
        for exc_info in (True, error, (KeyError, error, error.__traceback__)):
            event = logged(client, memory, exc_info=exc_info)
            assert event.details is not None
            exception = event.details["exception"]
            assert (exception["type"], exception["message"]) == ("KeyError", "'gone'")
            assert "local[6:]" in exception["traceback"]
            assert b"canary" not in line_of(memory)


def test_exc_info_without_an_exception_adds_nothing(client: Client, memory: MemoryTransport) -> None:
    assert logged(client, memory, exc_info=True).details is None
    assert logged(client, memory, exc_info=(None, None, None)).details is None


def test_details_are_a_snapshot(client: Client, memory: MemoryTransport) -> None:
    details: dict[str, Any] = {"list": [1]}
    client.log("t", "info", "m", details)
    details["list"].append(2)
    assert client.flush(PATIENCE_S)
    assert memory.events[0].details == {"list": [1]}


def test_an_object_whose_repr_logs_itself_is_logged_once_each(client: Client, memory: MemoryTransport) -> None:
    class Chatty:
        def __repr__(self) -> str:
            client.log("t", "info", "from repr", {"me": self})
            return "chatty"

    client.log("t", "info", "outer", {"me": Chatty()})
    assert client.flush(PATIENCE_S)
    inner = f"<{__name__}.{Chatty.__qualname__}>"
    assert [(event.message, event.details) for event in memory.events] == [
        ("from repr", {"me": inner}),
        ("outer", {"me": "chatty"}),
    ]


def test_logging_at_the_recursion_limit_raises_nothing_of_its_own(client: Client) -> None:
    def dive(levels: int) -> None:
        client.log("deep", "info", "", {"levels": levels, "nested": [{}]})
        dive(levels + 1)

    with pytest.raises(RecursionError):
        dive(0)
    client.log("t", "info", "still alive")
    assert client.flush(PATIENCE_S)
    figures = client.stats()
    assert figures.logged == figures.delivered + sum(figures.dropped.values())


def test_bound_fields_join_the_details_and_details_win(client: Client, memory: MemoryTransport) -> None:
    with bound(request_id="r1", who="bound"):
        assert logged(client, memory, details={"who": "details"}).details == {"request_id": "r1", "who": "details"}
        assert logged(client, memory).details == {"request_id": "r1", "who": "bound"}
        assert logged(client, memory, details=[1]).details == {"request_id": "r1", "who": "bound", "value": [1]}
        with bound(request_id="r2"):
            assert logged(client, memory).details == {"request_id": "r2", "who": "bound"}
        assert logged(client, memory).details == {"request_id": "r1", "who": "bound"}
    assert logged(client, memory).details is None
