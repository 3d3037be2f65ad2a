"""How much of the disk the coordinator's state takes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedelta_server.store.layout import Layout

JOURNAL = "journal"


@dataclass(frozen=True)
class Use:
    """What one kind of file takes."""

    kind: str
    """The journal, or the name of a directory below the state directory."""
    files: int
    bytes: int


def usage(state: Path) -> list[Use]:
    """What each kind of file takes now. A coordinator may be at work: what goes meanwhile is not counted."""
    layout = Layout(state)
    journal = [path for path in state.glob(f"{layout.journal.name}*") if path.is_file()]
    found = {JOURNAL: journal, **{each.name: list(each.rglob("*")) for each in layout.directories}}
    return [_use(kind, paths) for kind, paths in found.items()]


def _use(kind: str, paths: list[Path]) -> Use:
    sizes = list(_sizes(paths))
    return Use(kind, len(sizes), sum(sizes))


def _sizes(paths: list[Path]) -> Iterator[int]:
    for path in paths:
        try:
            if path.is_file():
                yield path.stat().st_size
        except FileNotFoundError:
            continue
