"""The settings of a schema: every field of its dataclasses, with what is known of it."""

import ast
import dataclasses
import functools
import inspect
import sys
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedelta.config._kinds import Notes, element, notes, schema_of

Key = tuple[str | int, ...]
"""Where a value is in a table: names, and numbers in lists."""


def dotted(key: Key) -> str:
    """A key as people write it: "learners[0].data"."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One value that can be set."""

    path: tuple[str, ...]
    """The names of the fields that lead to it."""
    kind: Any
    """Its type as annotated."""
    default: Any
    """`dataclasses.MISSING` where it must be given."""
    doc: str
    """The docstring under the field, in one line."""

    @property
    def key(self) -> str:
        """The name by which people know it: "rounds.max"."""
        return dotted(self.path)

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is dataclasses.MISSING

    @property
    def notes(self) -> Notes:
        """What its annotation notes."""
        return notes(self.kind)

    @property
    def flag(self) -> str:
        """Its option on the command line, the longest where there are several."""
        return max(self.flags, key=len)

    @property
    def flags(self) -> tuple[str, ...]:
        """All spellings of its option."""
        return self.notes.flags or ("--" + "-".join(self.path).replace("_", "-"),)

    def environment(self, prefix: str) -> str:
        """Its environment variable."""
        return self.notes.environment or prefix + "_".join(self.path).upper()


def settings(schema: type) -> tuple[Setting, ...]:
    """The settings of a dataclass and of those within it, in the order in which they are written down."""
    return _cached(schema)


@functools.cache
def _cached(schema: type) -> tuple[Setting, ...]:
    return tuple(_settings(schema, ()))


def _settings(schema: type, path: tuple[str, ...]) -> Iterator[Setting]:
    kinds, docs = hints(schema), docs_of(schema)
    for field in dataclasses.fields(schema):
        here = (*path, field.name)
        inner = schema_of(kinds[field.name])
        if inner is not None:
            yield from _settings(inner, here)
        else:
            doc = docs.get(field.name, "")
            yield Setting(path=here, kind=kinds[field.name], default=_default(field), doc=doc)


def _default(field: dataclasses.Field[Any]) -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


@functools.cache
def hints(schema: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, annotations included."""
    found = typing.get_type_hints(schema, include_extras=True)
    return {field.name: found[field.name] for field in dataclasses.fields(schema)}


def kind_at(schema: type, key: Key) -> Any:
    """The type of the value at a key; None where the schema does not say."""
    kind: Any = schema
    for part in key:
        kind = element(kind) if isinstance(part, int) else _field_kind(schema_of(kind), part)
    return kind


def _field_kind(schema: Any, name: str) -> Any:
    return None if schema is None else hints(schema).get(name)


@functools.cache
def docs_of(schema: type) -> Mapping[str, str]:
    """The docstrings under the fields of a dataclass, inherited ones as well, each in one line.

    Those are missing of which there is no source to read.
    """
    classes = (each for each in reversed(schema.__mro__) if each is not object)
    return {
        name: doc for each in classes for name, doc in _module_docs(each.__module__).get(each.__qualname__, {}).items()
    }


@functools.cache
def _module_docs(module: str) -> Mapping[str, Mapping[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):
        return {}
    return {node.name: dict(_docs(node)) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _docs(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    for field, below in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield field.target.id, " ".join(str(below.value.value).split())
