"""The collector's log on stderr: one record a line, as JSON or as text, with the id of the request it belongs to.

All code logs through the standard library; structlog renders the records. Text from clients cannot end or begin a
line: JSON escapes it; in text, every control character is replaced by its escape, and tracebacks are indented.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.dev import plain_traceback
from structlog.typing import EventDict, Processor

from brain_collector import printable

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error", "critical"]


def configure(log_format: LogFormat = "auto", log_level: LogLevel = "warning", stream: TextIO | None = None) -> None:
    """Send the log of this process to `stream`, by default stderr; a further call replaces the configuration.

    `auto` is text if the stream is a terminal, else JSON.
    """
    out = stream or sys.stderr
    as_text = log_format == "text" or (log_format == "auto" and out.isatty())
    renderers: tuple[Processor, ...] = (
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
            *renderers,
        ],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=log_level.upper(), force=True)


def _one_line(_logger: object, _method: str, record: EventDict) -> EventDict:
    """Escape every character that could end a text line, move the cursor, or change the writing direction."""
    for name, value in record.items():
        if name == "exception":
            record[name] = "\n".join(f"    {line}" for line in printable.lines(str(value)).split("\n"))
        elif isinstance(value, str):
            record[name] = printable.one_line(value)
    return record
