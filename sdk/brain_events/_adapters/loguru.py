"""Loguru: recognise its records in a logging handler, and remove its layout from their messages."""

import logging

_TRACEBACKS = ("\nTraceback (most recent call last):", "\n  + Exception Group Traceback (most recent call last):")


def is_loguru_record(record: logging.LogRecord) -> bool:
    """Return whether loguru made a record; the only sign is that the bound fields are one attribute, `extra`."""
    return type(record.__dict__.get("extra")) is dict


def message_of(record: logging.LogRecord, text: str) -> str:
    """Return `text` without what loguru adds: time, level and location before it, and the exception after it.

    Loguru's traceback shows the values of variables, which may be secrets; the event gets one without them instead.
    """
    location = f" | {record.name}:{record.funcName}:{record.lineno} - "
    before, separator, after = text.partition(location)
    message = after if separator else before
    if record.exc_info:
        for start in _TRACEBACKS:
            message = message.partition(start)[0]
    return message
