"""The command `fedelta client`."""

import asyncio
from typing import TYPE_CHECKING

import click

from fedelta.cli._config import configured
from fedelta.cli._options import insecure_option
from fedelta.errors import ConfigError, FedeltaError, LearnerError
from fedelta_client.config import ClientConfig

if TYPE_CHECKING:
    from fedelta_client.runtime import Settings


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
        code = asyncio.run(run(_settings(config)))
    except (ConfigError, LearnerError) as error:
        raise click.UsageError(str(error)) from None
    except (FedeltaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(code)


def _settings(config: ClientConfig) -> "Settings":
    from fedelta_client.runtime import Settings
    from fedelta_client.spool import default_root
    from fedelta_client.trainer import TrainerSettings

    trainers = tuple(
        TrainerSettings(learner=each.learner, data=each.data, device=each.device, threads=each.threads)
        for each in config.offers
    )
    return Settings(
        server=config.server,
        name=config.name,
        spool=config.spool or default_root(config.name),
        trainers=trainers,
        labels=config.label_values,
    )
