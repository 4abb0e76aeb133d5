"""The root of the command line: commands are imported when they are asked for; how each ends is one exit code."""

import errno
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click
from click.shell_completion import CompletionItem

from brain_collector.errors import CollectorError

VARIABLES: Final = "BRAIN_CLI_"
"""What begins the names of the variables that options have."""
INTERRUPTED: Final = 130
READER_GONE: Final = 141
EXIT_CODES: Final = {
    0: "It is done.",
    1: "It failed; stderr says why. `doctor`: there is a problem.",
    2: "Wrong usage.",
    3: "There is no such event (`get`; `query --fail-empty`).",
    4: "The collector refused the API key, or wants one.",
    5: "The collector cannot be reached.",
    INTERRUPTED: "Interrupted by Ctrl-C.",
    READER_GONE: "What read the output is gone, as after `| head`.",
}


class LazyGroup(click.Group):
    """A group of commands that are known by name, place (`module:attribute`) and one line of help.

    Its errors are one line each, without a traceback.
    """

    def __init__(self, *, places: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of their help."""
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """Import a command."""
        if cmd_name not in self.places:
            return None
        module, _, attribute = self.places[cmd_name][0].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return with_variables(found, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.places.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name, too, without importing any."""
        return [
            *(
                CompletionItem(name, help=summary)
                for name, (_, summary) in self.places.items()
                if name.startswith(incomplete)
            ),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; how it fails becomes the exit code."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()  # here a reader that is gone can still be told
        except CollectorError as error:
            raise _Failure(error) from None
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:
                _forget_output()
                raise click.exceptions.Exit(READER_GONE) from None
            raise
        return found


def with_variables(command: click.Command, name: str) -> click.Command:
    """Give each option its variables: of this command, and of all that have it; those of its own stay alone."""
    for option in command.params:
        if isinstance(option, click.Option) and option.allow_from_autoenv and option.envvar is None:
            flag = max(option.opts, key=len).lstrip("-")
            option.envvar = [_variable(name, flag), _variable(flag)]
    if isinstance(command, click.Group):
        for sub_name, sub in command.commands.items():
            with_variables(sub, f"{name}-{sub_name}")
    return command


def _variable(*parts: str) -> str:
    return VARIABLES + "_".join(parts).replace("-", "_").upper()


class _Failure(click.ClickException):
    def __init__(self, error: CollectorError) -> None:
        super().__init__(str(error))
        self.exit_code = error.exit_code  # type: ignore[misc] # click has one for a class


def _forget_output() -> None:
    """Leave nothing that the interpreter would try to write at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
