"""The README lists every command, and no other."""

import re
from collections.abc import Iterator
from itertools import takewhile

import click

from fedelta.cli import main
from tests.docs.pages import ROOT

WORD = re.compile(r"[a-z]+\Z")


def commands(command: click.Command, context: click.Context, path: str = "") -> Iterator[str]:
    """All commands that do something, for example "job submit"."""
    inner = command.list_commands(context) if isinstance(command, click.Group) else []
    if path and (not inner or (isinstance(command, click.Group) and command.invoke_without_command)):
        yield path
    for name in inner:
        assert isinstance(command, click.Group)
        found = command.get_command(context, name)
        assert found is not None
        yield from commands(found, context, f"{path} {name}".strip())


def listed(table: str) -> Iterator[str]:
    """The commands of the table, of which one row may have several: "`fedelta job stop ID`, `pause ID`"."""
    for row in re.findall(r"^\| (`fedelta.*?) \|", table, re.MULTILINE):
        first, *others = (list(takewhile(WORD.match, quoted.split())) for quoted in re.findall(r"`([^`]+)`", row))
        group = first[1:-1]
        yield " ".join(first[1:])
        yield from (" ".join([*group, *other]) for other in others if other)


def test_the_readme_lists_every_command() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme[readme.index("## Commands") : readme.index("## What you can rely on")]
    assert sorted(listed(table)) == sorted(commands(main, click.Context(main)))
