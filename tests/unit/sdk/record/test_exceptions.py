"""Exceptions: what is told of them, within which bounds, and that none of them can raise."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from brain_events._record.exception import (
    MAX_EXCEPTIONS,
    MAX_FRAMES,
    MAX_TEXT_CHARS,
    describe_exception,
    describe_stack,
)
from brain_events._record.sanitize import TRUNCATED


def caught(action: Any) -> Exception:
    try:
        action()
    except Exception as error:
        return error
    raise AssertionError


def traceback_of(error: BaseException) -> str:
    described = describe_exception(error)
    assert described is not None
    return described["traceback"]


def divide() -> None:
    numerator, local = 1, "canary"
    numerator / len(local[6:])


def test_it_reads_as_python_prints_it_without_locals() -> None:
    text = traceback_of(caught(divide))
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-3:] == [
        f'  File "{__file__}", line {divide.__code__.co_firstlineno + 2}, in divide',
        "    numerator / len(local[6:])",
        "ZeroDivisionError: division by zero",
    ]
    assert "canary" not in text


def test_causes_come_first_and_say_how_they_led_here() -> None:
    def explain() -> None:
        try:
            divide()
        except ZeroDivisionError as error:
            raise ValueError("explained") from error

    def stumble() -> None:
        try:
            explain()
        except ValueError:
            _ = {"": 0}["gone"]

    text = traceback_of(caught(stumble))
    order = ["ZeroDivisionError: ", "direct cause", "ValueError: explained", "During handling", "KeyError: 'gone'"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)


def test_a_suppressed_context_is_not_told() -> None:
    def hide() -> None:
        try:
            divide()
        except ZeroDivisionError:
            raise ValueError("alone") from None

    assert "ZeroDivisionError" not in traceback_of(caught(hide))


def test_a_cycle_of_causes_ends() -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert traceback_of(first).count("first") == 1


def test_a_long_chain_of_causes_is_cut() -> None:
    error = ValueError("0")
    for n in range(1, 10_000):
        error, before = ValueError(str(n)), error
        error.__cause__ = before
    text = traceback_of(error)
    assert text.endswith("ValueError: 9999\n")
    assert text.count("ValueError") == MAX_EXCEPTIONS


def test_a_group_tells_of_its_members_and_of_how_many_there_are() -> None:
    group = ExceptionGroup("many", [caught(divide), ExceptionGroup("inner", [KeyError("deep")])])
    text = traceback_of(group)
    assert "ExceptionGroup: many (2 sub-exceptions)" in text
    assert "  +---- 1 of 2\n  | Traceback (most recent call last):\n" in text
    assert "  |   +---- 1 of 1\n  |   | KeyError: 'deep'\n" in text
    large = traceback_of(ExceptionGroup("large", [ValueError(str(n)) for n in range(1000)]))
    assert large.endswith(f"  +---- and {1000 - MAX_EXCEPTIONS + 1} more\n")


def test_members_that_are_shared_or_nested_without_end_are_told_once() -> None:
    error: Exception = ValueError("bottom")
    for _ in range(500):
        error = ExceptionGroup("level", [error, error])
    assert len(traceback_of(error)) <= MAX_TEXT_CHARS + len(TRUNCATED)


def test_a_huge_recursion_keeps_the_innermost_frames_and_folds_what_repeats() -> None:
    def left(n: int) -> None:
        right(n + 1)

    def right(n: int) -> None:
        left(n + 1)

    def down() -> None:
        down()

    text = traceback_of(caught(lambda: left(0)))
    assert text.count("  File ") == MAX_FRAMES
    assert "RecursionError" in text
    assert traceback_of(caught(down)).count("    ...\n") == MAX_FRAMES - 1


def test_a_long_message_keeps_its_start_and_a_long_text_its_end() -> None:
    described = describe_exception(ValueError("m" * 100_000))
    assert described is not None
    assert described["message"].endswith(TRUNCATED)
    assert len(described["message"]) <= MAX_TEXT_CHARS + len(TRUNCATED)
    assert len(described["traceback"]) <= MAX_TEXT_CHARS + len(TRUNCATED)


def test_notes_are_told() -> None:
    error = ValueError("v")
    error.add_note("while it rained")
    assert traceback_of(error) == "ValueError: v\nwhile it rained\n"


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


class HostileError(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise ZeroDivisionError

    __str__ = __repr__ = UnreadableError.__str__


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise ZeroDivisionError


class LyingError(Exception):
    __cause__ = 1  # type: ignore[assignment]
    __notes__ = 7  # type: ignore[assignment]
    __traceback__ = "none"  # type: ignore[assignment]


def of_hostile_kind() -> Exception:
    class HostileKindError(Exception, metaclass=Meta):  # no name of the module: pytest would look at it
        pass

    return HostileKindError()


@pytest.mark.parametrize("make", [UnreadableError, HostileError, LyingError, of_hostile_kind])
def test_an_exception_that_raises_when_it_is_looked_at_is_described(make: Callable[[], Exception]) -> None:
    for error in (make(), caught(lambda: throw(make())), ExceptionGroup("g", [make()])):
        described = describe_exception(error)
        assert described is not None
        assert described["type"].endswith(type.__getattribute__(type(error), "__qualname__"))
        assert described["traceback"]


def throw(error: BaseException) -> None:
    raise error


def test_exc_info_names_the_exception_that_is_handled() -> None:
    try:
        divide()
    except ZeroDivisionError:
        for given in (True, sys.exc_info(), sys.exception()):
            described = describe_exception(given)
            assert described is not None
            assert described["type"] == "ZeroDivisionError"
    assert describe_exception((None, None, None)) is None


def test_a_stack_ends_where_it_was_asked_for() -> None:
    def here() -> str:
        return describe_stack(sys._getframe())

    text = here()
    assert text.startswith("Stack (most recent call last):\n")
    assert text.endswith("in here\n    return describe_stack(sys._getframe())")
    assert text.count("  File ") <= MAX_FRAMES


def test_where_is_the_innermost_frame_of_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").write_text(
        "import json\ndef charge(text):\n    return json.loads(text)\ndef place(text):\n    return charge(text)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    place = importlib.import_module("shop.orders").place
    described = describe_exception(caught(lambda: place("{")))
    assert described is not None
    assert described["where"] == "shop/orders.py:charge"
    assert "json/decoder.py" in described["traceback"]
    assert "where" not in (describe_exception(caught(lambda: place("{")), add_where=False) or {})


def test_where_is_the_innermost_frame_if_the_application_has_none_and_absent_without_a_traceback() -> None:
    error = caught(lambda: json.loads("{"))
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    described = describe_exception(error.with_traceback(frame))
    assert described is not None
    assert described["where"] == "json/decoder.py:raw_decode"
    assert "where" not in (describe_exception(ValueError("never raised")) or {})
