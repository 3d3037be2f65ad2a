"""Parts in words: from their docstrings, the types of their fields and what they declare."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any

from fedelta.config import JobSpec, Part, json_schema, table_schema
from fedelta.config._describe import default_in_words, range_in_words, type_in_words
from fedelta.config._settings import settings
from fedelta.parts._aggregation import Needs
from fedelta.parts._combination import requires, synchronous
from fedelta.parts._registry import SLOTS, Slot, find, known
from fedelta.parts._selection import Sizing


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A key of a part's table."""

    key: str
    type: str
    range: str
    default: str
    """In words; "required" where there is none."""
    meaning: str


@dataclass(frozen=True, kw_only=True)
class PartInfo:
    """What is to be known of an installed part."""

    slot: str
    name: str
    default: bool
    """It is what a job has that names none."""
    summary: str
    """The first paragraph of its docstring; of a part that cannot be loaded, why."""
    description: str
    """The whole docstring."""
    declares: tuple[str, ...]
    """What it takes of the rest of the plan, a sentence each."""
    parameters: tuple[Parameter, ...]
    source: str
    """Where it is defined: "package.module:Class"."""
    package: str
    """The installed package that it comes with, and its version."""


def describe(slot: Slot, name: str) -> PartInfo:
    """What is to be known of a part. Raises `ConfigError` where it is not installed."""
    if name not in known(slot):
        find(slot, name)
    entry = known(slot)[name]
    try:
        part: Any = find(slot, name)
        return _info(slot, entry, inspect.getdoc(part) or "", tuple(_declared(part)), tuple(_parameters(part)))
    except Exception as error:  # a third party's code
        return _info(slot, entry, str(error) or repr(error))


def _info(
    slot: Slot, entry: EntryPoint, doc: str, declares: tuple[str, ...] = (), parameters: tuple[Parameter, ...] = ()
) -> PartInfo:
    return PartInfo(
        slot=slot.name,
        name=entry.name,
        default=entry.name == slot.default,
        summary=" ".join(doc.partition("\n\n")[0].split()),
        description=doc,
        declares=declares,
        parameters=parameters,
        source=entry.value,
        package=f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "",
    )


def _parameters(part: type) -> Iterator[Parameter]:
    for each in settings(part):
        yield Parameter(
            key=each.key,
            type=type_in_words(each.kind),
            range=range_in_words(each.kind),
            default=default_in_words(each),
            meaning=each.doc,
        )


def _declared(part: Any) -> Iterator[str]:
    """What a part's declarations mean, those that are not the ordinary case."""
    for slot, names in requires(part).items():
        yield f"Works only with {slot} {' or '.join(names)}."
    if synchronous(part):
        yield "Works in synchronous rounds only, without rounds.buffer."
    yield from (sentence for name, says in _SAYS.items() if (sentence := says(_value(part, name))))


def _value(part: Any, name: str) -> Any:
    """A declaration, where it is the same whatever the parameters are."""
    found = getattr(part, name, None)
    return None if isinstance(found, property) else found


_SAYS: Mapping[str, Callable[[Any], str]] = {
    "needs": lambda needs: "Looks at each update by itself." if needs is Needs.EACH else "",
    "facts": lambda facts: f"Each update brings: {', '.join(sorted(facts))}." if facts else "",
    "shared": lambda names: f"Shares tensors with the clients: {', '.join(names)}." if names else "",
    "keeps_state": lambda keeps: "Keeps something at each client from round to round." if keeps else "",
    "state": lambda names: f"Keeps for each tensor of the model: {', '.join(names)}." if names else "",
    "reads_metrics": lambda reads: (
        "Decides by metrics, and waits for those that `evaluate.lag` lets it see." if reads else ""
    ),
    "sizing": lambda sizing: "Says itself how many clients train." if sizing in (Sizing.ALL, Sizing.CHANCE) else "",
}
"""For each declaration of the protocols, what its value means; empty: the ordinary case."""


def job_schema() -> dict[str, Any]:
    """The JSON schema of job files, with the parts that are installed here."""
    return json_schema(JobSpec, "fedelta job file", part_schema)


def part_schema(kind: type[Part]) -> dict[str, Any]:
    """The JSON schema of the tables that name one of the installed parts of a kind."""
    slot = SLOTS[kind.SLOT]
    return {"oneOf": [table for name in known(slot) if (table := _usable(slot, name)) is not None]}


def _usable(slot: Slot, name: str) -> dict[str, Any] | None:
    """The table of a part; None where it cannot be loaded."""
    try:
        return _named(find(slot, name), slot.kind, name)
    except Exception:  # a third party's code
        return None


def _named(part: type, kind: type[Part], name: str) -> dict[str, Any]:
    table = table_schema(part, part_schema)
    # A table without a name is one of the default part.
    required = ([] if name == kind.DEFAULT else ["name"]) + table["required"]
    named = {"name": {"description": f"This part of {kind.SLOT}.", "const": name}}
    return {"title": name, **table, "properties": named | table["properties"], "required": required}
