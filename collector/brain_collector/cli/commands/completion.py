"""`brain-events completion`: the script with which a shell completes commands and options."""

import click
from click.shell_completion import get_completion_class

from brain_collector.cli.help_layout import command

PROGRAM = "brain-events"
VARIABLE = "_BRAIN_EVENTS_COMPLETE"


@command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell.

    To complete commands and options, add the line of your shell to the file named after it; for fish, run it once:

    \b
    bash  eval "$(brain-events completion bash)"            in ~/.bashrc
    zsh   eval "$(brain-events completion zsh)"             in ~/.zshrc
    fish  brain-events completion fish > ~/.config/fish/completions/brain-events.fish
    """  # noqa: D301 - click leaves the lines after this mark as they are
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    click.echo(completion_class(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())
