"""The command `fedelta client`."""

import asyncio

import click

from fedelta.cli._config import configured
from fedelta.cli._options import insecure_option
from fedelta.errors import ConfigError, FedeltaError, LearnerError
from fedelta_client.config import ClientConfig


@click.command()
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
    except (ConfigError, LearnerError) as error:
        raise click.UsageError(str(error)) from None
    except (FedeltaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(code)
