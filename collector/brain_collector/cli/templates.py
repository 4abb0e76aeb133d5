"""Output lines in a format that the user chooses: some fields separated by tabs, or a template."""

import re
from collections.abc import Callable
from string import Formatter
from typing import Any, Final

import click
import msgspec

from brain_collector.cli.help_layout import option
from brain_collector.cli.render import FIELDS, StoredEvent, value_text
from brain_collector.query.details_path import split_path

LineFormat = Callable[[StoredEvent], str]


class Columns(click.ParamType[LineFormat]):
    """`id,message,details.user.id`: formats an event as these values, separated by tabs."""

    name = "fields"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LineFormat:
        """Return the function that formats an event."""
        if callable(value):
            return value  # type: ignore[no-any-return] # already converted
        try:
            paths = [_field_path(name.strip()) for name in value.split(",")]
        except ValueError as error:
            self.fail(str(error), param, ctx)

        def format_line(event: StoredEvent) -> str:
            fields = msgspec.json.decode(event.json)
            return "\t".join(_text_at(fields, path) for path in paths)

        return format_line


class Template(click.ParamType[LineFormat]):
    """`{timestamp} {details.user.id:>8}`: formats an event by a template; other text is copied."""

    name = "template"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> LineFormat:
        """Return the function that formats an event."""
        if callable(value):
            return value  # type: ignore[no-any-return] # already converted
        try:
            parts = [
                (literal, None if name is None else _field_path(name), spec or "")
                for literal, name, spec, _ in Formatter().parse(value)
            ]
            for _, _, spec in parts:
                format("", spec)
        except ValueError as error:
            self.fail(str(error), param, ctx)

        def format_line(event: StoredEvent) -> str:
            fields = msgspec.json.decode(event.json)
            return "".join(
                literal + ("" if path is None else format(_text_at(fields, path), spec))
                for literal, path, spec in parts
            )

        return format_line


def _field_path(name: str) -> tuple[str, ...]:
    path = split_path(name) or ()
    if not path or "" in path or path[0] not in FIELDS or (len(path) > 1 and path[0] != "details"):
        raise ValueError(
            f"{name[:40]!r} is not a field; use {', '.join(FIELDS)}, or a path into the details such as details.user.id"
        )
    return path


def _text_at(fields: Any, path: tuple[str, ...]) -> str:
    """Return the value at a path on one line: a string as it is, other values as JSON, nothing if it is absent."""
    value = fields
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and re.fullmatch(r"-?[0-9]{1,9}", key, re.ASCII):
            value = value[int(key)] if -len(value) <= int(key) < len(value) else None
        else:
            value = None
    return "" if value is None else value_text(value)


FIELDS_OPTION: Final = option(
    "--fields",
    metavar="A,B,...",
    type=Columns(),
    help="Print only these fields, separated by tabs. Example: id,message,details.user.id",
)
TEMPLATE_OPTION: Final = option(
    "--template",
    metavar="TEXT",
    type=Template(),
    help="Print each event by this template. Example: '{timestamp} {severity:<8} {message}'",
)
