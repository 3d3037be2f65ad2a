"""The top-level command: finds the others when they are needed, and turns errors into words and exit codes."""

import functools
import os
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click

from fedelta.cli._exit import ExitCode, code_of
from fedelta.errors import FedeltaError

ENTRY_POINTS = "fedelta.commands"

_ORDER = (
    "demo",
    "server",
    "client",
    "job",
    "clients",
    "model",
    "parts",
    "stats",
    "simulate",
    "verify",
    "disk",
    "completion",
)

_EXTRA_OF = {
    "alembic": "server",
    "fedelta_client": "client",
    "fedelta_server": "server",
    "grpc_health": "server",
    "grpc_reflection": "server",
    "matplotlib": "demo",
    "sklearn": "demo",
    "sqlalchemy": "server",
    "torch": "torch",
}
"""Which extra brings a package that may be missing."""


def pip_line(error: ModuleNotFoundError) -> str:
    """What to type to get the missing module."""
    extra = _EXTRA_OF.get((error.name or "").partition(".")[0], "all")
    return f'pip install "fedelta[{extra}]"'


def _unavailable(name: str, error: ModuleNotFoundError) -> click.Command:
    """Stands in for a command that cannot be imported, so that the list stays complete."""

    def explain(**_: object) -> None:
        raise error

    return click.Command(
        name,
        callback=explain,
        params=[click.Argument(["arguments"], nargs=-1, type=click.UNPROCESSED)],
        context_settings={"ignore_unknown_options": True},
        short_help=f"(not available: {pip_line(error)})",
        help=f"Not available here: {error}. To get it: {pip_line(error)}",
    )


class CommandGroup(click.Group):
    """Imports a sub-command when it is run or listed, not before."""

    @functools.cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which one meets them; those of other packages follow by name."""
        del ctx
        return [name for name in _ORDER if name in self._entries] + sorted(self._entries.keys() - set(_ORDER))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or a stand-in that says how to install it."""
        del ctx
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        try:
            command: click.Command = entry.load()
        except ModuleNotFoundError as error:
            return _unavailable(cmd_name, error)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, with the nearest names where there is no such command."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            names = self.list_commands(ctx)
            raise click.exceptions.NoSuchCommand(error.command_name, possibilities=names, ctx=ctx) from None

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Runs the command line. Standing alone, it ends the process with the command's exit code."""
        run = functools.partial(super().main, *args, standalone_mode=False, **extra)
        return sys.exit(exit_code(run)) if standalone_mode else run()


def exit_code(run: Callable[[], Any]) -> int:
    """Runs a command and returns its exit code; says in one line on stderr what went wrong."""
    try:
        result = run()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return ExitCode.INTERRUPTED
    except (FedeltaError, ModuleNotFoundError, BrokenPipeError) as error:
        if os.environ.get("FEDELTA_DEBUG"):
            raise
        return _tell(error)
    # click returns what ctx.exit() was given.
    return result if isinstance(result, int) else ExitCode.DONE


def _tell(error: Exception) -> int:
    if isinstance(error, BrokenPipeError):
        # Nobody reads on (`fedelta job list | head`); keep the interpreter from writing again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    hint = f"; to get it: {pip_line(error)}" if isinstance(error, ModuleNotFoundError) else ""
    click.echo(f"error: {error}{hint}", err=True)
    return code_of(error) if isinstance(error, FedeltaError) else ExitCode.FAILED
