"""`fedelta server`."""

import os

import click

from fedelta.cli._config import configured
from fedelta.cli._options import insecure_option
from fedelta_server.config import ServerConfig


@click.command()
@configured(ServerConfig)
@insecure_option
def server(config: ServerConfig) -> None:
    """Run the coordinator daemon.

    \b
    Examples:
      fedelta server --state ./coordinator --port 8470
      fedelta server --config coordinator.toml
    """
    # Before numpy is imported: the coordinator's dot products are too small to be worth threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fedelta import _logs

    # Before grpc is imported, which reads its log settings then.
    _logs.configure(format=config.log_format, verbose=config.verbose)
    import asyncio

    from fedelta._malloc import keep_freed_chunks
    from fedelta_server.daemon import serve

    keep_freed_chunks()
    raise SystemExit(asyncio.run(serve(config)))
