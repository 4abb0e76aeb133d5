"""Loguru: the record that it makes for a logging handler goes in, the message without loguru's layout comes out."""

import logging

_TRACEBACKS = ("\nTraceback (most recent call last):", "\n  + Exception Group Traceback (most recent call last):")


def made(record: logging.LogRecord) -> bool:
    """Tell whether loguru made a record: it puts what was bound under one name, and itself nowhere."""
    return type(record.__dict__.get("extra")) is dict


def message_of(record: logging.LogRecord, text: str) -> str:
    """Take time, level and place off again, which the default format puts first, and the exception, which comes last.

    The traceback of loguru shows the values of variables, secrets among them; ours is made from the exception.
    """
    place = f" | {record.name}:{record.funcName}:{record.lineno} - "
    before, found, after = text.partition(place)
    message = after if found else before
    if record.exc_info:
        for start in _TRACEBACKS:
            message = message.partition(start)[0]
    return message
