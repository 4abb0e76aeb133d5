"""`brain-events completion`: the script by which a shell completes commands and options."""

import click
from click.shell_completion import get_completion_class

from brain_collector.cli.options import CONTEXT

PROGRAM = "brain-events"
VARIABLE = "_BRAIN_EVENTS_COMPLETE"


@click.command(context_settings=CONTEXT)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that lets a shell complete commands and options.

    \b
    bash  eval "$(brain-events completion bash)"            in ~/.bashrc
    zsh   eval "$(brain-events completion zsh)"             in ~/.zshrc
    fish  brain-events completion fish > ~/.config/fish/completions/brain-events.fish
    """  # noqa: D301 - the mark is click's: these lines stay as they are
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source())
