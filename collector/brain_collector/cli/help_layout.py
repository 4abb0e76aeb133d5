"""Command and option classes whose `--help` has sections, and one bracket with variable, default and range.

click lists all options of a command in one block, and describes a range as `0<=x<=10`.
"""

from collections.abc import Callable
from typing import Any, Final

import click
from click.types import OptionHelpExtra

CONTEXT: Final = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
OPTIONS: Final = "Options"
FILTERS: Final = "Filters"
DISPLAY: Final = "Display"
CONNECTION: Final = "Connection"


class Option(click.Option):
    """An option that is listed in a section of the help.

    `shown_envvar` is a variable that the help names and click does not read: the settings are read by `load`.
    """

    def __init__(self, *args: Any, section: str = OPTIONS, shown_envvar: str | None = None, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.section = section
        self.shown_envvar = shown_envvar

    def get_help_extra(self, ctx: click.Context) -> OptionHelpExtra:
        """Return what follows the text: a default without parentheses or `.0`, a range if it has two ends."""
        extra = super().get_help_extra(ctx)
        if self.shown_envvar:
            extra["envvars"] = (self.shown_envvar,)
        if isinstance(self.show_default, str):
            extra["default"] = self.show_default
        elif isinstance(self.default, int | float) and "default" in extra:
            extra["default"] = f"{self.default:,}" if isinstance(self.default, int) else f"{self.default:g}"
        if isinstance(self.type, click.IntRange | click.FloatRange) and "range" in extra:
            del extra["range"]
            if self.type.min is not None and self.type.max is not None:
                extra["range"] = f"{self.type.min:,} to {self.type.max:,}"
        return extra


class Command(click.Command):
    """A command whose help lists its options by section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in the order in which the options were declared, `Options` first."""
        sections: dict[str, list[tuple[str, str]]] = {OPTIONS: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                sections.setdefault(getattr(param, "section", OPTIONS), []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def command(name: str | None = None, **settings: Any) -> Callable[[Callable[..., Any]], Command]:
    """Return a decorator that makes a command of a function."""
    return click.command(name, cls=Command, **{"context_settings": CONTEXT, **settings})


def option(*names: str, **settings: Any) -> Callable[[Any], Any]:
    """Return a decorator that adds an option; `section` and `shown_envvar` are those of `Option`."""
    return click.option(*names, cls=Option, **settings)
