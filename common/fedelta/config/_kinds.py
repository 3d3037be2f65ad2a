"""What an annotation says: the type it comes down to, its bounds, and its notes."""

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What else is to be known of a value. Stands in its annotation: `Annotated[str, Notes(...)]`."""

    flags: tuple[str, ...] = ()
    """How it is spelled on the command line. Empty: after the field's name."""
    metavar: str = ""
    """What stands for the value in help texts. Empty: after the type."""
    default: str = ""
    """The default in words, where the value itself would say too little."""
    environment: str = ""
    """The environment variable. Empty: after the field's name."""
    noun: str = ""
    """What the value must be, for errors: "client name"."""
    rule: str = ""
    """How such a thing is written."""
    exists: bool = False
    """A path that must lead to something."""


def metadata(kind: Any) -> Iterator[Any]:
    """What stands in the annotations of a type, from the inside out."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        yield from metadata(kind.__origin__)
        yield from kind.__metadata__
    elif _is_union(origin):
        for part in typing.get_args(kind):
            yield from metadata(part)


def notes(kind: Any) -> Notes:
    """All notes of a type; outer ones win."""
    found: dict[str, Any] = {}
    for each in metadata(kind):
        if isinstance(each, Notes):
            found |= {name: value for name, value in vars(each).items() if value}
    return Notes(**found)


def bounds(kind: Any) -> Mapping[str, Any]:
    """The bounds of a type: "ge", "gt", "le", "lt", as far as it has them."""
    found: dict[str, Any] = {}
    for each in metadata(kind):
        if isinstance(each, Meta):
            found |= {name: getattr(each, name) for name in ("ge", "gt", "le", "lt")}
    return {name: bound for name, bound in found.items() if bound is not None}


def bare(kind: Any) -> Any:
    """The type without annotations and without `| None`."""
    found = given(kind)
    return bare(found.__origin__) if typing.get_origin(found) is Annotated else found


def given(kind: Any) -> Any:
    """The type without `| None`: what a value has that is there."""
    if not _is_union(typing.get_origin(kind)):
        return kind
    return given(next(part for part in typing.get_args(kind) if part is not types.NoneType))


def element(kind: Any) -> Any:
    """The type of the elements, where `kind` is `tuple[X, ...]`; else None."""
    found = bare(kind)
    return typing.get_args(found)[0] if typing.get_origin(found) is tuple else None


def is_table(kind: Any) -> bool:
    """Whether the value is a table with keys of its owner's choice."""
    found = bare(kind)
    return typing.get_origin(found) is Mapping or bool(getattr(found, "IS_TABLE", False))


def choices(kind: Any) -> tuple[str, ...]:
    """The values of a `Literal`; empty for other types."""
    found = bare(kind)
    return typing.get_args(found) if typing.get_origin(found) is typing.Literal else ()


def schema_of(kind: Any) -> Any:
    """The dataclass that the value is, or None."""
    found = bare(kind)
    return found if dataclasses.is_dataclass(found) else None


def _is_union(origin: Any) -> bool:
    return origin is typing.Union or origin is types.UnionType
