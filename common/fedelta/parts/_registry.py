"""From the name in a job file to the part: by entry point, one group for each slot."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fedelta.config import (
    AggregatorPart,
    LocalPart,
    Part,
    SchedulePart,
    SelectorPart,
    ServerOptimizerPart,
    StopPart,
    bind_part,
)
from fedelta.config._bind import nearest
from fedelta.errors import ConfigError
from fedelta.parts._aggregation import Aggregator
from fedelta.parts._local import LocalTraining
from fedelta.parts._optimization import Schedule, ServerOptimizer
from fedelta.parts._selection import Selector
from fedelta.parts._stopping import StopRule


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place in a plan."""

    kind: type[Part]
    """What a job file has for it."""
    group: str
    """The entry points in which parts for it are found."""
    protocol: type
    """What a part for it must have."""

    @property
    def name(self) -> str:
        """The job file's table."""
        return self.kind.SLOT

    @property
    def default(self) -> str:
        """The part that is meant where none is named; empty: one must be."""
        return self.kind.DEFAULT


SLOTS: Mapping[str, Slot] = {
    kind.SLOT: Slot(kind=kind, group=f"fedelta.{group}", protocol=protocol)
    for kind, group, protocol in (
        (SelectorPart, "selectors", Selector),
        (LocalPart, "local_training", LocalTraining),
        (AggregatorPart, "aggregators", Aggregator),
        (ServerOptimizerPart, "server_optimizers", ServerOptimizer),
        (SchedulePart, "schedules", Schedule),
        (StopPart, "stop_rules", StopRule),
    )
}
"""All slots by name."""


def slot_of(part: Part) -> Slot:
    """The slot a part of a job file is for."""
    return SLOTS[part.SLOT]


@functools.cache
def known(slot: Slot) -> Mapping[str, EntryPoint]:
    """The parts for a slot that are installed, by name, sorted. Read once: it looks at every package there is."""
    return {each.name: each for each in sorted(entry_points(group=slot.group), key=lambda each: each.name)}


def find(slot: Slot, name: str, key: str = "") -> type:
    """The class of a part. Raises `ConfigError` where it is not installed or cannot be loaded.

    `key`: what errors call the place where it is named; empty: the slot's name.
    """
    if name not in known(slot):
        known.cache_clear()  # it may have been installed meanwhile
    parts = known(slot)
    if name not in parts:
        where = key or slot.name
        raise ConfigError(f"{where}.name = {name!r} is not known{nearest(name, list(parts))}")
    try:
        found = parts[name].load()
    except Exception as error:  # a third party's code
        raise ConfigError(f"part {name!r} ({parts[name].value}) cannot be loaded: {error!r}") from error
    if not (isinstance(found, type) and is_dataclass(found)):
        raise ConfigError(f"part {name!r} ({parts[name].value}) is no dataclass")
    return found


def build(part: Part, key: str = "") -> Any:
    """Makes the part that a job file names. Raises `ConfigError` naming the key and the remedy.

    `key`: what errors call the part's table; empty: the slot's name.
    """
    slot = slot_of(part)
    made: Any = bind_part(find(slot, part.name, key), part.parameters, key or slot.name)
    missing = [name for name in _members(slot.protocol) if not hasattr(made, name)]
    if missing:
        what = f"part {part.name!r} ({known(slot)[part.name].value})"
        raise ConfigError(
            f"{what} is no {slot.name}: it has no {missing[0]!r}; see fedelta.parts.{slot.protocol.__name__}"
        )
    return made


@functools.cache
def _members(protocol: type) -> tuple[str, ...]:
    """The names of what a protocol declares."""
    methods = [name for name in vars(protocol) if not name.startswith("_")]
    return (*protocol.__annotations__, *methods)
