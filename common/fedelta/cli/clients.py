"""`fedelta clients`."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

from fedelta.cli import _complete
from fedelta.cli._options import connect, json_option, server_options
from fedelta.cli._output import print_json, print_table
from fedelta.errors import NotFoundError

if TYPE_CHECKING:
    from fedelta.admin import ClientInfo


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete.clients)
@json_option
@server_options
def clients(names: tuple[str, ...], server: str, as_json: bool) -> None:
    """List the clients that registered since the coordinator started, or only those named.

    "declined" are the jobs in which a client's site does not take part; `fedelta job show` and --json say why.
    """
    with connect(server) as admin:
        found = admin.clients()
    if names:
        found = _named(names, found)
    if as_json:
        print_json(found)
    else:
        columns = ("client", "state", "works on", "learners", "labels", "declined", "last seen")
        print_table(columns, map(_row, found), "no client registered yet")


def _named(names: Sequence[str], found: "Iterable[ClientInfo]") -> "tuple[ClientInfo, ...]":
    by_name = {client.name: client for client in found}
    for name in names:
        if name not in by_name:
            raise NotFoundError(f"no client {name!r} has registered since the coordinator started")
    return tuple(by_name[name] for name in names)


def _row(client: "ClientInfo") -> tuple[str, ...]:
    done = f" ({client.progress:.0%})" if client.progress else ""
    return (
        client.name,
        f"{client.state}, evaluates only" if client.evaluates_only else client.state,
        ", ".join(each.removesuffix(f".{client.name}") for each in client.assignments) + done,
        ", ".join(client.learners),
        ", ".join(f"{key}={value}" if value else key for key, value in sorted(client.labels.items())),
        ", ".join(sorted(client.declined)),
        f"{client.last_seen.astimezone():%H:%M:%S}",
    )
