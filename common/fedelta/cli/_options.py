"""Options that several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedelta._names import DEFAULT_PORT, address
from fedelta.errors import ConfigError

if TYPE_CHECKING:
    from fedelta.admin import AdminClient

DEFAULT_SERVER = f"localhost:{DEFAULT_PORT}"

F = TypeVar("F", bound=Callable[..., Any])


def insecure_option(command: F) -> F:
    """--insecure: accepted everywhere, and so far the only mode."""
    option = click.option(
        "--insecure", is_flag=True, expose_value=False, help="Speak without encryption (so far the only way)."
    )
    return option(command)


def _checked_address(_context: click.Context, _parameter: click.Parameter, server: str) -> str:
    try:
        return address(server)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def server_options(command: F) -> F:
    """--server and --insecure, for commands that speak to a coordinator."""
    option = click.option(
        "--server",
        metavar="HOST:PORT",
        envvar="FEDELTA_SERVER",
        callback=_checked_address,
        default=DEFAULT_SERVER,
        show_default=True,
        show_envvar=True,
        help="The coordinator.",
    )
    return option(insecure_option(command))


def json_option(command: F) -> F:
    """--json, for commands whose output programs read."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def plain_option(command: F) -> F:
    """--plain, for commands that follow a job."""
    return click.option("--plain", is_flag=True, help="One line for each event, also on a terminal.")(command)


def connect(server: str, *, timeout: float = 30) -> "AdminClient":
    """The admin client; imported here, because gRPC takes its time and `--help` must not wait for it."""
    from fedelta.admin import AdminClient

    return AdminClient(server, timeout=timeout)
