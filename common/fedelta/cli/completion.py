"""`fedelta completion`."""

import click
from click.shell_completion import get_completion_class

VARIABLE = "_FEDELTA_COMPLETE"
"""Where the shell says that it wants completions; click derives the name from the command's."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, job ids and client names in a shell.

    \b
    Put this into ~/.bashrc or ~/.zshrc:
      eval "$(fedelta completion bash)"
      eval "$(fedelta completion zsh)"
    \b
    For fish:
      fedelta completion fish > ~/.config/fish/completions/fedelta.fish

    Jobs and clients are those of the coordinator that --server or FEDELTA_SERVER names.
    """
    root = click.get_current_context().find_root().command
    maker = get_completion_class(shell)
    assert maker is not None  # click has these three
    click.echo(maker(root, {}, "fedelta", VARIABLE).source())
