"""Events as the lines that a user asks for: some fields with tabs between, or a template."""

import re
from collections.abc import Callable
from string import Formatter
from typing import Any, Final

import click
import msgspec

from brain_collector.cli.render import FIELDS, Found, shown

Line = Callable[[Found], str]
_PATH: Final = re.compile(r"(?:[^\\]|\\[.\\])+", re.DOTALL)
_KEYS: Final = re.compile(r"(?:^|\.)((?:[^.\\]|\\.)*)")


class Columns(click.ParamType[Line]):
    """`a,b,details.user.id`, as what makes a line of an event: its values with tabs between."""

    name = "fields"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Line:
        """Return what makes the line."""
        if callable(value):
            return value  # type: ignore[no-any-return] # it was converted before
        try:
            paths = [_path(name.strip()) for name in value.split(",")]
        except ValueError as error:
            self.fail(str(error), param, ctx)

        def line(found: Found) -> str:
            event = msgspec.json.decode(found.line)
            return "\t".join(_text(event, path) for path in paths)

        return line


class Template(click.ParamType[Line]):
    """`{timestamp} {details.user.id:>8}`, as what makes a line of an event; literal text is kept as it is."""

    name = "template"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Line:
        """Return what makes the line."""
        if callable(value):
            return value  # type: ignore[no-any-return] # it was converted before
        try:
            parts = [
                (literal, None if name is None else _path(name), spec or "")
                for literal, name, spec, _ in Formatter().parse(value)
            ]
            for _, _, spec in parts:
                format("", spec)
        except ValueError as error:
            self.fail(str(error), param, ctx)

        def line(found: Found) -> str:
            event = msgspec.json.decode(found.line)
            return "".join(
                literal + ("" if path is None else format(_text(event, path), spec)) for literal, path, spec in parts
            )

        return line


def _path(name: str) -> tuple[str, ...]:
    r"""Take a path apart as the API does for a filter: dots between keys, `\.` for a dot within one."""
    keys = tuple(re.sub(r"\\(.)", r"\1", key) for key in _KEYS.findall(name)) if _PATH.fullmatch(name) else ()
    if not keys or "" in keys or keys[0] not in FIELDS or (len(keys) > 1 and keys[0] != "details"):
        raise ValueError(f"{name[:40]!r} is no field; there are {', '.join(FIELDS)} and paths as details.user.id")
    return keys


def _text(event: Any, path: tuple[str, ...]) -> str:
    """Return the value at a path on one line: text as it is, other values as JSON, none as nothing."""
    value = event
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and re.fullmatch(r"-?[0-9]{1,9}", key, re.ASCII):
            value = value[int(key)] if -len(value) <= int(key) < len(value) else None
        else:
            value = None
    return "" if value is None else shown(value)


FIELDS_OPTION: Final = click.option(
    "--fields",
    metavar="A,B,...",
    type=Columns(),
    help="Only these fields, with tabs between, as id,message,details.user.id.",
)
TEMPLATE_OPTION: Final = click.option(
    "--template",
    metavar="TEXT",
    type=Template(),
    help="A line of your own for each event, as '{timestamp} {severity:<8} {message}'.",
)
