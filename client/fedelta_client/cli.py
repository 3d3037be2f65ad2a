"""The command `fedelta client`."""

import asyncio
import logging
import socket
from pathlib import Path

import click

from fedelta._names import NAME_RULE, is_name
from fedelta.cli._options import server_options
from fedelta.errors import ConfigError, FedeltaError, LearnerError


def _checked_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str:
    """The name, or else that of the host."""
    found = name if name is not None else socket.gethostname()
    if is_name(found):
        return found
    raise click.BadParameter(f"{found!r} is no client name; use {NAME_RULE}")


@click.command()
@server_options
@click.option(
    "--learner",
    "learners",
    required=True,
    multiple=True,
    metavar="MODULE:CLASS",
    help="A learner to offer; found in this directory, too. Say it again for another one.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    default=Path(),
    help="Goes to the learner as its `data`.  [default: this directory]",
)
@click.option("--name", callback=_checked_name, help="Unique in the federation.  [default: the host's name]")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N|mps", help="For torch.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads to train with.  [default: 1]")
@click.option("--spool", type=click.Path(file_okay=False, path_type=Path), help="Directory for models and updates.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def client(
    server: str,
    learners: tuple[str, ...],
    data: Path,
    name: str,
    device: str,
    threads: int | None,
    spool: Path | None,
    verbose: bool,
) -> None:
    """Trains on this machine's data for a coordinator, until it is stopped.

    Ctrl-C lets it finish the assignment it works on; a second one ends it at once.
    """
    # Not at the top: other commands list this one and need not wait for grpc.
    from fedelta_client.runtime import Settings, run
    from fedelta_client.spool import default_root
    from fedelta_client.trainer import TrainerSettings

    _log_to_stderr(name, verbose)
    trainers = tuple(TrainerSettings(learner=each, data=data, device=device, threads=threads) for each in learners)
    settings = Settings(server=server, name=name, spool=spool or default_root(name), trainers=trainers)
    try:
        code = asyncio.run(run(settings))
    except (ConfigError, LearnerError) as error:
        raise click.UsageError(str(error)) from None
    except (FedeltaError, OSError) as error:
        raise click.ClickException(str(error)) from None
    raise SystemExit(code)


def _log_to_stderr(name: str, verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"%(asctime)s {name} %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("fedelta").setLevel(logging.DEBUG if verbose else logging.INFO)
