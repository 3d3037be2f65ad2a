"""Writes docs/reference/parts.md from the parts that come with fedelta: `make docs`."""

import sys
from collections.abc import Iterator
from pathlib import Path

from fedelta.config._settings import settings
from fedelta.parts import SLOTS, PartInfo, Slot, describe, find, known
from scripts.markdown import cells, code, documentation, table

_HEAD = """\
# Parts of plans

<!-- Made by `make docs` from the parts' docstrings and types; changes made here are lost. -->

What a job can be composed of, with the keys of each part's table in a job file. `fedelta parts list` and
`fedelta parts show NAME` print the same, and parts of other packages as well; how to use them is in
[Select clients, and stop in time](../how-to/selection-and-stopping.md), how to add one in
[Write a part](../how-to/write-a-part.md).
"""

_PACKAGE = "fedelta"


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(text for slot in SLOTS.values() for text in _slot(slot))])


def _slot(slot: Slot) -> Iterator[str]:
    yield f"## {code(slot.name)}\n\n{_capitalized(documentation(slot.kind).partition(': ')[2])}\n"
    for name, entry in known(slot).items():
        if entry.value.partition(":")[0].partition(".")[0] in (_PACKAGE, f"{_PACKAGE}_server"):
            yield from _part(describe(slot, name))


def _part(part: PartInfo) -> Iterator[str]:
    yield f"### {code(f'{part.slot}: {part.name}')}{' (default)' if part.default else ''}\n"
    yield "\n\n".join(filter(None, (part.description, " ".join(part.declares)))) + "\n"
    if part.parameters:
        found = settings(find(SLOTS[part.slot], part.name))
        yield table(("key", "type", "range", "default", "meaning"), ([*cells(each), each.doc] for each in found))


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
