"""`fedelta parts`: what a job can be composed of, from the parts that are installed here."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from fedelta.cli._options import json_option
from fedelta.cli._output import print_json, print_table
from fedelta.errors import ConfigError

if TYPE_CHECKING:
    from fedelta.parts import PartInfo, Slot


def _complete_slots(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from fedelta.parts import SLOTS

    return [CompletionItem(name) for name in SLOTS if name.startswith(incomplete)]


def _complete_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from fedelta.parts import SLOTS, known

    slot = SLOTS.get(context.params.get("first") or "")
    if slot is None:
        names = sorted({name for each in SLOTS.values() for name in known(each)})
        found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return _complete_slots(context, parameter, incomplete) + found
    return [CompletionItem(name) for name in known(slot) if name.startswith(incomplete)]


@click.group()
def parts() -> None:
    """What a job can be composed of: selectors, aggregators and so on, those of other packages included.

    The coordinator's own environment decides what a job can use; these are the parts in this one.
    """


@parts.command("list")
@click.argument("slot", required=False, shell_complete=_complete_slots)
@json_option
def list_(slot: str | None, as_json: bool) -> None:
    """List the parts that are installed, or those for one SLOT: a table of a job file, such as "aggregator"."""
    found = list(_all([_slot(slot)] if slot else _slots()))
    if as_json:
        print_json(found)
    else:
        rows = ((each.slot, _called(each), each.summary, each.package) for each in found)
        print_table(("slot", "name", "what it does", "from"), rows, "nothing is installed for it")


@parts.command()
@click.argument("first", metavar="[SLOT]", shell_complete=_complete_names)
@click.argument("second", metavar="NAME", required=False, shell_complete=_complete_names)
@json_option
def show(first: str, second: str | None, as_json: bool) -> None:
    """Show what a part does, and its parameters. Without SLOT: all parts of that NAME."""
    found = list(_named(first, second))
    if as_json:
        print_json(found)
        return
    for index, each in enumerate(found):
        click.echo("\n" * (index > 0), nl=False)
        _print(each)


def _slots() -> "Iterable[Slot]":
    from fedelta.parts import SLOTS

    return SLOTS.values()


def _slot(name: str) -> "Slot":
    from fedelta.config._bind import nearest
    from fedelta.parts import SLOTS

    if name not in SLOTS:
        raise ConfigError(f"there is no slot {name!r}{nearest(name, list(SLOTS))}")
    return SLOTS[name]


def _all(slots: "Iterable[Slot]") -> "Iterator[PartInfo]":
    from fedelta.parts import describe, known

    return (describe(slot, name) for slot in slots for name in known(slot))


def _named(first: str, second: str | None) -> "Iterator[PartInfo]":
    from fedelta.config._bind import nearest
    from fedelta.parts import describe, known

    if second is not None:
        yield describe(_slot(first), second)
        return
    slots = [slot for slot in _slots() if first in known(slot)]
    if not slots:
        names = sorted({name for slot in _slots() for name in known(slot)})
        raise ConfigError(f"there is no part {first!r}{nearest(first, names)}")
    yield from (describe(slot, first) for slot in slots)


def _called(part: "PartInfo") -> str:
    return f"{part.name} (default)" if part.default else part.name


def _print(part: "PartInfo") -> None:
    click.echo(f"{part.slot} {_called(part)}, from {part.package or 'nowhere'} ({part.source})\n")
    click.echo("\n".join([part.description, *part.declares]))
    if part.parameters:
        click.echo()
        rows = ((each.key, each.type, each.range, each.default, each.meaning) for each in part.parameters)
        print_table(("key", "type", "range", "default", "meaning"), rows, "")
