"""Describe an exception: its type, message and traceback, without the local variables, which may hold secrets.

The text is what Python prints, but bounded. The standard `traceback` module has no bounds: it formats every cause of a
cause and every member of a group, parses each source line for its carets, and checks every file on disk each time.
"""

import linecache
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import CodeType, FrameType, TracebackType
from typing import Any

from brain_events._record.sanitize import TRUNCATED, is_a, name_of, to_text

MAX_TEXT_CHARS = 16 * 1024
MAX_FRAMES = 50
"""Maximum number of frames of one exception; the innermost ones are kept, since they are the most useful."""
MAX_EXCEPTIONS = 10
"""Maximum number of exceptions in one traceback, causes and members of groups included."""
MAX_MESSAGE_CHARS = 4 * 1024
_LOGGED = "__brain_events_logged__"
_STANDARD_LIBRARY = (os.path.dirname(linecache.__file__) + "/",)  # noqa: PTH120 -- as frames have it

_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"

_Frame = tuple[CodeType, int, dict[str, Any]]
_error_of: Callable[[BaseException, str], Any] = BaseException.__getattribute__  # bypasses an override that raises


def describe_exception(exc_info: Any, *, add_where: bool = True) -> dict[str, str] | None:
    """Return type, message and traceback of an exception or an exc_info tuple; True means the one being handled.

    `where` is the file and function of the innermost frame of the application, if the exception was raised.
    The exception is marked, so that `was_logged` is true.
    """
    error = exc_info[1] if type(exc_info) is tuple and len(exc_info) == 3 else exc_info
    if not is_a(error, BaseException):
        error = sys.exception()
    if error is None:
        return None
    with suppress(Exception):
        BaseException.__setattr__(error, _LOGGED, os.getpid())  # an unpickled one was logged elsewhere, if at all
    described = {"type": _type_of(error), "message": to_text(error, MAX_TEXT_CHARS), "traceback": _traceback_of(error)}
    if add_where:
        with suppress(Exception):  # an exception class of the application may do anything
            if where := _where(error):
                described["where"] = where
    return described


def was_logged(error: BaseException) -> bool:
    """Return whether an event has described this exception object."""
    return bool(_error_of(error, "__dict__").get(_LOGGED) == os.getpid())


def summary_of(error: BaseException) -> str:
    """Return type and message of an exception, as the last line of a traceback shows them."""
    message = to_text(error, MAX_MESSAGE_CHARS)
    return f"{_type_of(error)}: {message}" if message else _type_of(error)


def describe_stack(frame: FrameType | None) -> str:
    """Return the stack that leads to `frame`, as a traceback shows it."""
    stack = "".join(_format_frames(_frames_above(frame)))
    return _truncate_start("Stack (most recent call last):\n" + stack.rstrip("\n"))


def _traceback_of(error: BaseException) -> str:
    try:
        return _truncate_start("".join(_format_chain(error, _Seen())))
    except Exception as failure:  # noqa: BLE001 -- an exception class of the application may do anything
        return f"[unreadable: {type(failure).__name__}]"


def _where(error: BaseException) -> str | None:
    """Return `file:function` of the innermost frame outside the standard library and installed packages, if any."""
    codes = [code for code, _, _ in _frames_of(_error_of(error, "__traceback__"))]
    ours = [code for code in codes if not _is_library(code.co_filename)] or codes
    return f"{_relative(ours[-1].co_filename)}:{ours[-1].co_name}" if ours else None


def _is_library(path: str) -> bool:
    return path.startswith(("<frozen", *_STANDARD_LIBRARY)) or "/site-packages/" in path or "/dist-packages/" in path


def _relative(path: str) -> str:
    """Return a path without the longest directory of `sys.path` that it is in: the same on every host."""
    parents = [parent for parent in sys.path if type(parent) is str and parent and path.startswith(f"{parent}/")]
    return path[len(max(parents, key=len)) + 1 :] if parents else path


def _truncate_start(text: str) -> str:
    return text if len(text) <= MAX_TEXT_CHARS else TRUNCATED + text[-MAX_TEXT_CHARS:]


class _Seen(set[int]):
    """The ids of the exceptions in one traceback: causes can form a cycle, and groups can share members."""

    def add_new(self, error: object) -> bool:
        """Add `error`; return False if it is not an exception, is in the set already, or the set is full."""
        if not is_a(error, BaseException) or id(error) in self or len(self) >= MAX_EXCEPTIONS:
            return False
        self.add(id(error))
        return True


def _format_chain(error: BaseException, seen: _Seen) -> Iterator[str]:
    """Yield the text of `error` after the exceptions that led to it, the first cause first, as Python does."""
    chain: list[tuple[BaseException, str]] = []
    link = ""
    while seen.add_new(error):
        chain.append((error, link))
        if (cause := _error_of(error, "__cause__")) is not None:
            error, link = cause, _CAUSE
        elif not _error_of(error, "__suppress_context__"):
            error, link = _error_of(error, "__context__"), _CONTEXT
    for member, link_after in reversed(chain):
        yield from _format_exception(member, seen)
        yield link_after


def _format_exception(error: BaseException, seen: _Seen) -> Iterator[str]:
    if frames := list(_frames_of(_error_of(error, "__traceback__"))):
        yield "Traceback (most recent call last):\n"
        yield from _format_frames(frames)
    message = to_text(error, MAX_MESSAGE_CHARS)
    yield _type_of(error) + (f": {message}\n" if message else "\n")
    notes = getattr(error, "__notes__", None)
    for note in notes[:MAX_EXCEPTIONS] if type(notes) is list else ():
        yield to_text(note, MAX_MESSAGE_CHARS) + "\n"
    if is_a(error, BaseExceptionGroup):
        members = BaseExceptionGroup.exceptions.__get__(error)
        for number, member in enumerate(members, 1):
            if not seen.add_new(member):
                yield f"  +---- and {len(members) - number + 1} more\n"
                return
            seen.discard(id(member))
            yield f"  +---- {number} of {len(members)}\n"
            for text in _format_chain(member, seen):
                yield from (f"  | {line}" for line in text.splitlines(keepends=True))


def _type_of(error: BaseException) -> str:
    return name_of(type(error)).removeprefix("builtins.")


def _frames_of(trace: TracebackType | None) -> Iterable[_Frame]:
    kept: deque[TracebackType] = deque(maxlen=MAX_FRAMES)
    while trace is not None:
        kept.append(trace)
        trace = trace.tb_next
    return [(item.tb_frame.f_code, item.tb_lineno, item.tb_frame.f_globals) for item in kept]


def _frames_above(frame: FrameType | None) -> Iterable[_Frame]:
    frames: deque[_Frame] = deque()
    while frame is not None and len(frames) < MAX_FRAMES:
        frames.appendleft((frame.f_code, frame.f_lineno, frame.f_globals))
        frame = frame.f_back
    return frames


def _format_frames(frames: Iterable[_Frame]) -> Iterator[str]:
    previous = ""
    for code, number, names in frames:
        text = f'  File "{code.co_filename}", line {number}, in {code.co_name}\n'
        if text == previous:  # a recursion
            yield "    ...\n"
            continue
        previous = text
        source = linecache.getline(code.co_filename, number, names).strip()
        yield f"{text}    {source}\n" if source else text
