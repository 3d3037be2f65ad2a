"""The command `fedelta`.

It finds its sub-commands through the entry-point group "fedelta.commands", so that this package imports
neither the coordinator nor the client, and starts quickly.
"""

import click

from fedelta.cli._group import CommandGroup


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    from fedelta.cli._version import version_line

    if wanted and not context.resilient_parsing:
        click.echo(version_line())
        context.exit()


_version_option = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of fedelta, its protocol and what it runs on.",
)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@_version_option
def main() -> None:
    """Train one model on data that stays where it is.

    \b
    A whole federation on this machine, to look at:
      fedelta demo
    \b
    The same by hand, each in a terminal of its own:
      fedelta server --state ./coordinator
      fedelta client --server localhost:8470 --learner digits:Digits --data ./shard-1
      fedelta job submit digits.toml --wait
    \b
    FEDELTA_SERVER names the coordinator where --server is not given;
    FEDELTA_DEBUG=1 shows tracebacks.
    """
