"""The root group of the command line: it imports a command only when it is used, and turns failures into exit codes."""

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from brain_collector import printable
from brain_collector.errors import CollectorError

ENV_PREFIX: Final = "BRAIN_CLI_"
"""The prefix of the variables that set options."""
INTERRUPTED: Final = 130
OUTPUT_CLOSED: Final = 141
EXIT_CODES: Final = {
    0: "Success.",
    1: "Failure; stderr says why. `doctor`: a problem was found.",
    2: "Wrong usage: an unknown command or option, or an invalid value.",
    3: "No such event (`get`), or no matching event (`query --fail-empty`).",
    4: "The collector refused the API key, or requires one.",
    5: "The collector cannot be reached.",
    INTERRUPTED: "Interrupted by Ctrl-C.",
    OUTPUT_CLOSED: "The program that read the output has ended, as after `| head`.",
}


class LazyGroup(click.Group):
    """A group that knows each command by name, target (`module:attribute`) and a line of help.

    Errors are printed as one line, without a traceback.
    """

    def __init__(self, *, targets: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self.targets = targets

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the help."""
        return list(self.targets)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Import a command."""
        if cmd_name not in self.targets:
            return None
        module, _, attribute = self.targets[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return add_variables(command, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.targets.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing any."""
        return [
            *(
                CompletionItem(name, help=summary)
                for name, (_, summary) in self.targets.items()
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a failure becomes an exit code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed output is still noticed here
        except CollectorError as error:
            raise _Failure(error) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                _discard_output()
                raise click.exceptions.Exit(OUTPUT_CLOSED) from None
            raise
        return result


def add_variables(command: click.Command, name: str) -> click.Command:
    """Give each option two variables, one for this command and one for all; an option that has one keeps it."""
    for option in command.params:
        if isinstance(option, click.Option) and option.allow_from_autoenv and option.envvar is None:
            flag = max(option.opts, key=len).lstrip("-")
            option.envvar = [_variable(name, flag), _variable(flag)]
    if isinstance(command, click.Group):
        for subcommand_name, subcommand in command.commands.items():
            add_variables(subcommand, f"{name}-{subcommand_name}")
    return command


def _variable(*parts: str) -> str:
    return ENV_PREFIX + "_".join(parts).replace("-", "_").upper()


class _Failure(click.ClickException):
    """A failure as one message; control characters are escaped, since it may quote another machine."""

    def __init__(self, error: CollectorError) -> None:
        super().__init__(printable.lines(str(error)))
        self.exit_code = error.exit_code  # type: ignore[misc] # click declares it on the class


def _discard_output() -> None:
    """Point stdout at /dev/null, so that the interpreter does not fail when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
