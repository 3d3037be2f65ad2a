"""What commands print: tables, numbers for people, JSON for programs."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
import msgspec

from fedelta._printable import printable
from fedelta._words import plural as plural


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
        _align([list(columns), *found])


def _draw(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*columns, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)


def _align(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def span(seconds: float) -> str:
    """A length of time for people: "0.25 s", "12.5 s", "3m 20s", "2h 05m", "4d 02h"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 24 else f"{hours // 24}d {hours % 24:02}h"


def numbers(metrics: Mapping[str, float]) -> str:
    """Metrics for people: "accuracy 0.9432  loss 0.2"."""
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))


def when(time: datetime) -> str:
    """A point in time for people: local time, to the second."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def short(digest: str) -> str:
    """As much of a digest as tells it apart from others; --json has all of it."""
    return digest[:12]
