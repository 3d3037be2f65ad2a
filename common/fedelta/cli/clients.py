"""`fedelta clients`."""

from typing import TYPE_CHECKING

import click

from fedelta.cli._options import connect, json_option, server_options
from fedelta.cli._output import print_json, print_table

if TYPE_CHECKING:
    from fedelta.admin import ClientInfo


@click.command()
@json_option
@server_options
def clients(server: str, as_json: bool) -> None:
    """List the clients that registered since the coordinator started."""
    with connect(server) as admin:
        found = admin.clients()
    if as_json:
        print_json(found)
    else:
        print_table(
            ("client", "state", "works on", "learners", "last seen"), map(_row, found), "no client registered yet"
        )


def _row(client: "ClientInfo") -> tuple[str, ...]:
    done = f" ({client.progress:.0%})" if client.progress else ""
    return (
        client.name,
        client.state,
        ", ".join(client.assignments) + done,
        ", ".join(client.learners),
        f"{client.last_seen.astimezone():%H:%M:%S}",
    )
