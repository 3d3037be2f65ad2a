"""`fedelta client log`, `approvals`, `approve` and `deny`: what the operator of a site does beside the running client.

They work on the client's spool, whether it runs or not.
"""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedelta._names import address
from fedelta._words import plural
from fedelta.cli._options import json_option
from fedelta.cli._output import print_json
from fedelta.errors import ConfigError

if TYPE_CHECKING:
    from fedelta_client.approval import Approval, Decision
    from fedelta_client.ledger import Reader

F = TypeVar("F", bound=Callable[..., Any])

_FOLLOW_SECONDS = 0.5


def _spool_options(command: F) -> F:
    """--name and --spool, as the client was started with; the command gets `spool`, its directory."""
    name = click.option(
        "--name",
        envvar="FEDELTA_CLIENT_NAME",
        show_envvar=True,
        expose_value=False,
        is_eager=True,
        callback=_remember,
        help="The client's name.  [default: the host's name]",
    )
    spool = click.option(
        "--spool",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="FEDELTA_CLIENT_SPOOL",
        show_envvar=True,
        callback=_found,
        help="The client's spool, where it has one of its own.",
    )
    return name(spool(command))


def _remember(context: click.Context, _parameter: click.Parameter, name: str | None) -> None:
    context.meta["fedelta.client"] = name or socket.gethostname()


def _found(context: click.Context, _parameter: click.Parameter, spool: Path | None) -> Path:
    from fedelta_client.spool import default_root

    name = context.meta["fedelta.client"]
    found = spool or default_root(name)
    if found.is_dir():
        return found
    hint = "" if spool else f"; say --name or --spool, as client {name!r} was started with"
    raise click.UsageError(f"there is no spool of a client at {found}{hint}")


def _server(_context: click.Context, _parameter: click.Parameter, server: str | None) -> str | None:
    try:
        return None if server is None else address(server)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def _decision_options(command: F) -> F:
    """JOB and --server, for commands that decide."""
    server = click.option(
        "--server", metavar="HOST:PORT", callback=_server, help="Its coordinator, where several have a job of that id."
    )
    return click.argument("job")(server(command))


@click.command()
@_spool_options
@click.option("--job", metavar="ID", help="Only what belongs to this job.")
@click.option("--all", "everything", is_flag=True, help="Also the learner's numbers while it trains.")
@click.option("--follow", is_flag=True, help="Go on as more comes.")
@json_option
def log(spool: Path, job: str | None, everything: bool, follow: bool, as_json: bool) -> None:
    """Show what left this site, and what was fetched.

    With --json everything is shown; with --json --follow as lines of the ledger.
    """
    from fedelta_client.history import History, follow_lines
    from fedelta_client.ledger import Reader

    reader = Reader(spool / "ledger.jsonl")
    if follow:
        show = follow_lines(job, everything=everything, as_json=as_json)
        _each(reader, show)
    history = History.of(reader, job)
    if as_json:
        print_json(history.as_plain())
    else:
        history.print(everything=everything)
    if reader.unreadable:
        click.echo(f"{plural(reader.unreadable, 'line')} of the ledger could not be read", err=True)


def _each(reader: "Reader", show: Callable[[Any], None]) -> None:
    """Shows every line, those that are there and those that come, until it is interrupted."""
    while True:
        for line in reader.lines():
            show(line)
        time.sleep(_FOLLOW_SECONDS)


@click.command()
@_spool_options
@json_option
def approvals(spool: Path, as_json: bool) -> None:
    """Show which jobs have asked at this site, and what was decided."""
    from fedelta_client.approval import Approvals, describe

    found = Approvals(spool / "approvals").all()
    if as_json:
        print_json(found)
        return
    for each in found:
        click.echo("\n".join([*describe(each), f"  decision           {_decided(each)}"]))
    if not found:
        click.echo("no job has asked yet")


def _decided(asked: "Approval") -> str:
    return f"{asked.decision} on {asked.time.astimezone():%Y-%m-%d %H:%M:%S}" if asked.time else asked.decision


@click.command()
@_decision_options
@_spool_options
def approve(spool: Path, job: str, server: str | None) -> None:
    """Let a job work with data of this site."""
    _decide(spool, job, server, "approved")


@click.command()
@_decision_options
@_spool_options
def deny(spool: Path, job: str, server: str | None) -> None:
    """Keep a job from data of this site, also one that was approved before. Work under way is finished."""
    _decide(spool, job, server, "denied")


def _decide(spool: Path, job: str, server: str | None, decision: "Decision") -> None:
    from fedelta_client import bell
    from fedelta_client.approval import Approvals, describe

    kept = Approvals(spool / "approvals")
    asked = kept.find(job, server)
    kept.decide(asked, decision)
    click.echo("\n".join(describe(asked)))
    heard = "" if bell.ring(spool) else "; the client does not run now, it will know when it starts"
    click.echo(f"{decision}{heard}")
