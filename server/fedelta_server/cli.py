"""`fedelta server`."""

import os
from pathlib import Path

import click

from fedelta._names import DEFAULT_PORT
from fedelta.cli._options import insecure_option


@click.command()
@click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Directory for the journal and the models; made if need be.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=DEFAULT_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: a free one.")
@insecure_option
@click.option("--insecure-bind-anywhere", is_flag=True, help="Allow a --host that other machines reach.")
@click.option("-v", "--verbose", is_flag=True, help="Log what goes on.")
def server(state: Path, host: str, port: int, insecure_bind_anywhere: bool, verbose: bool) -> None:
    """Run the coordinator daemon.

    \b
    Example:
      fedelta server --state ./coordinator --port 8470
    """
    # Before numpy is imported: the coordinator's dot products are too small to be worth threads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if not verbose:
        # gRPC's core writes to stderr what is raised and explained here as well.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    import asyncio
    import logging

    from fedelta._malloc import keep_freed_chunks
    from fedelta_server.daemon import DaemonConfig, serve

    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    keep_freed_chunks()
    config = DaemonConfig(state=state, host=host, port=port, bind_anywhere=insecure_bind_anywhere)
    raise SystemExit(asyncio.run(serve(config)))
