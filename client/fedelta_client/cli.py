"""The command `fedelta client`."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import click

from fedelta.cli._config import configured
from fedelta.cli._options import insecure_option
from fedelta_client import commands
from fedelta_client.config import ClientConfig


def _unless_subcommand(command: Callable[..., None]) -> Callable[..., None]:
    """A group that does something by itself does it only where no sub-command is named."""

    @functools.wraps(command)
    def run(**given: Any) -> None:
        if click.get_current_context().invoked_subcommand is None:
            command(**given)

    return run


@click.group(invoke_without_command=True)
@_unless_subcommand
@configured(ClientConfig)
@insecure_option
def client(config: ClientConfig) -> None:
    """Trains on this machine's data for a coordinator, until it is stopped.

    Ctrl-C lets it finish the assignment it works on; a second one ends it at once.

    \b
    Examples:
      fedelta client --learner digits:Digits --data ./shard-1
      fedelta client --config site.toml
    """
    from fedelta import _logs

    # Before grpc is imported, which reads its log settings then.
    _logs.configure(format=config.log_format, verbose=config.verbose, process=config.name)
    from fedelta_client.runtime import run

    try:
        code = asyncio.run(run(config))
    except OSError as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(code)


for _command in (commands.log, commands.approvals, commands.approve, commands.deny):
    client.add_command(_command)
