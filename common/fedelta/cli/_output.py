"""What commands print: tables for people, JSON for programs."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click
import msgspec

from fedelta._printable import printable


def print_json(value: Any) -> None:
    """Prints a value (dataclasses, enums and times included) as indented JSON."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """Prints a table: drawn on a terminal, aligned plain lines elsewhere, `empty` where there are no rows."""
    found = [[printable(cell) for cell in row] for row in rows]
    if not found:
        click.echo(empty)
    elif sys.stdout.isatty():
        _draw(columns, found)
    else:
        for line in aligned([list(columns), *found]):
            click.echo(line)


def _draw(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as lines, with the columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
