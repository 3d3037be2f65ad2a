"""Options that several commands share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from fedelta._logs import quiet_grpc
from fedelta._names import DEFAULT_PORT, address
from fedelta.errors import ConfigError
from fedelta.wire.proxy import ProxySetting

if TYPE_CHECKING:
    from fedelta.admin import AdminClient

DEFAULT_SERVER = f"localhost:{DEFAULT_PORT}"

_PROXY = f"{__name__}.proxy"

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


def _keep_proxy(context: click.Context, parameter: click.Parameter, proxy: str) -> None:
    """Puts it aside for `connect`: commands have nothing to do with it."""
    typed = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
    context.meta[_PROXY] = ProxySetting(proxy, "--proxy" if typed else "FEDELTA_PROXY")


def server_options(command: F) -> F:
    """--server, --proxy and --insecure, for commands that speak to a coordinator through `connect`."""
    proxy = click.option(
        "--proxy",
        metavar="environment|none|URL",
        envvar="FEDELTA_PROXY",
        callback=_keep_proxy,
        expose_value=False,
        default="environment",
        show_default=True,
        show_envvar=True,
        help="The HTTP proxy to go through; environment: as HTTPS_PROXY and NO_PROXY say.",
    )
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
    return option(proxy(insecure_option(command)))


def json_option(command: F) -> F:
    """--json, for commands whose output programs read."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


def plain_option(command: F) -> F:
    """--plain, for commands that follow a job."""
    return click.option("--plain", is_flag=True, help="One line for each event, also on a terminal.")(command)


def connect(server: str, *, timeout: float = 30) -> "AdminClient":
    """The admin client; imported here, because gRPC takes its time and `--help` must not wait for it."""
    quiet_grpc()
    from fedelta.admin import AdminClient

    context = click.get_current_context(silent=True)
    proxy = context.meta.get(_PROXY) if context is not None else None
    return AdminClient(server, proxy=proxy or ProxySetting(), timeout=timeout)
