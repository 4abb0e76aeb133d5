"""The collector's log on stderr: one record a line, as JSON or as text, with the id of the request it belongs to.

Everything logs through the standard library; structlog renders. What a client sent can end no line and begin none:
JSON escapes it, and in text every control character is shown as its escape, tracebacks are indented.
"""

import logging
import re
import sys
from typing import Final, Literal, TextIO

import structlog
from structlog.dev import plain_traceback
from structlog.typing import EventDict, Processor

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_CONTROL_IN_LINES: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def configure(log_format: LogFormat = "auto", log_level: LogLevel = "warning", stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream` (stderr); `auto` is text on a terminal, else JSON. Again replaces it."""
    out = stream or sys.stderr
    as_text = log_format == "text" or (log_format == "auto" and out.isatty())
    ending: tuple[Processor, ...] = (
        (_one_line, structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain_traceback))
        if as_text
        else (structlog.processors.JSONRenderer(),)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *ending,
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)


def _one_line(_logger: object, _method: str, record: EventDict) -> EventDict:
    """Leave no character in a text line that could end it, move the cursor, or turn the direction of writing."""
    for name, value in record.items():
        if name == "exception":
            escaped = _CONTROL_IN_LINES.sub(_escaped, str(value))
            record[name] = "\n".join(f"    {line}" for line in escaped.split("\n"))
        elif isinstance(value, str):
            record[name] = _CONTROL.sub(_escaped, value)
    return record


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
