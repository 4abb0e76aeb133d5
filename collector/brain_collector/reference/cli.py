"""Makes docs/cli.md out of the commands themselves: `python -m brain_collector.reference.cli > docs/cli.md`."""

import inspect
import sys
from collections.abc import Iterator
from typing import Final

import click

from brain_collector.cli.commands.doctor import deep
from brain_collector.cli.help_layout import Option
from brain_collector.cli.lazy_group import ENV_PREFIX, EXIT_CODES
from brain_collector.cli.main import cli
from brain_collector.cli.options import connected

PROGRAM: Final = "brain-events"
_INTRODUCTION: Final = f"""# The command line

<!-- made by `python -m brain_collector.reference.cli`; a test holds this page against the code -->

`brain-events` comes with the collector (`pip install 'brain-events[collector]'`). Only data goes to stdout; what there
is to say, and how far a long command is, goes to stderr, the latter only to terminals. What events say is shown with
every control character as its escape. Times are RFC 3339 (without an offset: UTC) or an age: `15m`, `2h`, `7d`, `1w`.

An option takes precedence over its variable. Each can be set by `{ENV_PREFIX}<COMMAND>_<OPTION>`, for example
`{ENV_PREFIX}TAIL_TZ=utc`, and by `{ENV_PREFIX}<OPTION>` for every command that has the option, unless the table names
another variable; separate several values with spaces. The flags of settings (`serve`, `migrate`, `config show`, ...)
are read from the [variables of the settings](../README.md#settings).
"""


def render() -> str:
    """Return the page."""
    context = click.Context(cli, info_name=PROGRAM)
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    sections = [text for name in cli.list_commands(context) for text in _sections(name, context)]
    asked = "\n".join(_rows(_asking.params))
    return "\n".join(
        [
            _INTRODUCTION,
            f"## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n",
            f"## Which collector\n\nCommands that ask a collector take these.\n\n{_HEAD}\n{asked}\n",
            *sections,
        ]
    )


_HEAD: Final = "| option | default | meaning |\n|---|---|---|"


@click.command
@connected
def _asking(_client: object) -> None:
    """Have the options of every command that asks a collector, and none else."""


def _sections(name: str, context: click.Context) -> Iterator[str]:
    command = cli.get_command(context, name)
    assert command is not None
    yield _section(name, command)
    if isinstance(command, click.Group):
        yield from (_section(f"{name} {sub}", command.commands[sub]) for sub in command.commands)
    if name == "doctor":
        yield _section("doctor --deep", deep)


def _section(name: str, command: click.Command) -> str:
    usage = f"{PROGRAM} {name}" + "".join(f" {_argument(each)}" for each in command.params)
    shared = {option.name for option in _asking.params}
    shared = shared if shared <= {option.name for option in command.params} else set()
    own = [each for each in command.params if each.name not in shared]
    parts = [f"## {name}\n", f"`{' '.join(usage.split())}`\n", *_paragraphs(command)]
    rows = list(_rows(own))
    if rows:
        parts.append("\n".join([_HEAD, *rows]) + "\n")
    if shared:
        parts.append("And [which collector](#which-collector).\n")
    return "\n".join(parts)


def _argument(param: click.Parameter) -> str:
    if not isinstance(param, click.Argument):
        return ""
    choices = "|".join(param.type.choices) if isinstance(param.type, click.Choice) else None
    text = param.metavar or choices or str(param.name).upper()
    text += "..." if param.nargs == -1 and not text.endswith("...") else ""
    return text if param.required else f"[{text}]"


def _paragraphs(command: click.Command) -> Iterator[str]:
    """Yield the help; the lines that click is told to leave as they are, as code."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == "\b":
            yield "\n".join(["```", *lines[1:], "```", ""])
        else:
            yield " ".join(line.strip() for line in lines).replace("<", "\\<") + "\n"


def _rows(params: list[click.Parameter]) -> Iterator[str]:
    for option in params:
        if isinstance(option, click.Option) and not option.hidden:
            meaning = (option.help or "").replace("|", "\\|")
            yield f"| {_names(option)} | {_default(option)} | {meaning} |"


def _names(option: click.Option) -> str:
    kind = option.type
    choices = "\\|".join(kind.choices) if isinstance(kind, click.Choice) else None
    value = "" if option.is_flag else f" {option.metavar or choices or 'TEXT'}"
    names = ", ".join([*option.opts, *option.secondary_opts])
    variable = option.shown_envvar if isinstance(option, Option) else None
    if variable is None and isinstance(option.envvar, str):
        variable = option.envvar
    return f"`{names}{value}`" + (f" (`{variable}`)" if variable else "")


def _default(option: click.Option) -> str:
    return option.get_help_extra(click.Context(cli)).get("default", "")


if __name__ == "__main__":
    sys.stdout.write(render())
