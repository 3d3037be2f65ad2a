"""Turns a table of plain values into a dataclass and says exactly what is wrong with it."""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from fedelta.config._kinds import choices, element, notes, schema_of
from fedelta.config._secret import Secret
from fedelta.config._settings import Key, dotted, hints, kind_at
from fedelta.errors import ConfigError

T = TypeVar("T")

_COMPLAINT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<name>[^.\[\]]+)|\[(?P<index>\d+)\]")
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")


class Origin(Protocol):
    """Where the values of a table come from, for errors."""

    def name(self, key: Key, /) -> str:
        """The file, variable or flag that gives the value."""

    def where(self, key: Key, /) -> str:
        """What to call the value: file and key, or variable, or flag."""

    def remedy(self, key: Key, /) -> str:
        """How to give a value that is missing, where its name alone does not say so."""

    def involved(self, complaint: str, /) -> str:
        """Where the values come from that a complaint about several of them names, where that is not plain."""


def convert(schema: type[T], table: Mapping[str, Any], origin: Origin) -> T:
    """Makes a `schema` from a table. Raises `ConfigError` naming the origin, the key and the remedy."""
    _check_keys(schema, table, origin, ())
    try:
        found = msgspec.convert(table, schema, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), schema, table, origin)) from None
    _check_paths(schema, found, origin, ())
    return found


class _PartOrigin:
    """A part's table in a job file."""

    def __init__(self, key: str) -> None:
        self._key = key

    def name(self, _: Key) -> str:
        return self._key

    def where(self, key: Key) -> str:
        return f"{self._key}.{dotted(key)}" if key else self._key

    def remedy(self, _: Key) -> str:
        return ""

    def involved(self, _: str) -> str:
        return ""


def bind_part(schema: type[T], parameters: Mapping[str, Any], key: str) -> T:
    """Makes a part from its table in a job file, which errors call `key`. Raises `ConfigError`."""
    return convert(schema, parameters, _PartOrigin(key))


def _check_keys(schema: type, table: Mapping[str, Any], origin: Origin, path: Key) -> None:
    kinds = hints(schema)
    for name, value in table.items():
        key = (*path, name)
        if name not in kinds:
            near = nearest(name, list(kinds), dotted((*path, "")))
            raise ConfigError(f"{origin.name(key)}: unknown key {dotted(key)!r}{near}")
        for where, inner, part in _tables(kinds[name], value, key):
            _check_keys(inner, part, origin, where)


def nearest(name: str, known: Sequence[str], before: str = "") -> str:
    """The end of an error about an unknown name: the nearest one that there is, else all; `before` is put before it."""
    if not known:
        return "; there are none"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {before + near[0]!r}?" if near else f"; known are {', '.join(before + x for x in known)}"


def _tables(kind: Any, value: Any, key: Key) -> Iterator[tuple[Key, type, Mapping[str, Any]]]:
    """The tables at a key whose names a dataclass rules: one, or those of a list."""
    inner = schema_of(kind)
    if inner is not None and isinstance(value, Mapping):
        yield key, inner, value
    elif element(kind) is not None and isinstance(value, list):
        for index, part in enumerate(value):
            yield from _tables(element(kind), part, (*key, index))


def _check_paths(schema: type, config: Any, origin: Origin, path: Key) -> None:
    """Paths that must lead to something do."""
    for name, kind in hints(schema).items():
        value, key = getattr(config, name), (*path, name)
        if isinstance(value, Path) and notes(kind).exists and not value.exists():
            raise ConfigError(f"{origin.where(key)}: {str(value)!r} does not exist")
        for index, part in enumerate(value if isinstance(value, tuple) else ()):
            if schema_of(element(kind)) is not None:
                _check_paths(type(part), part, origin, (*key, index))


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is Secret and isinstance(value, Secret):
        return value
    parse = getattr(kind, "parse", None)
    if parse is not None:
        return parse(value)
    raise ValueError(f"expected a {kind.__name__.lower()}")


def _explain(complaint: str, schema: type, table: Mapping[str, Any], origin: Origin) -> str:
    match = _COMPLAINT.match(complaint)
    what, key = (match["what"], _key(match["path"] or "")) if match else (complaint, ())
    missing = _MISSING.fullmatch(what)
    if missing:
        absent = (*key, missing["key"])
        return f"{origin.where(absent)} is missing{origin.remedy(absent)}"
    words = _in_words(what, kind_at(schema, key), _value(table, key)) if key else what + origin.involved(what)
    return ": ".join(filter(None, (origin.where(key), words)))


def _key(path: str) -> Key:
    return tuple(step["name"] or int(step["index"]) for step in _STEP.finditer(path))


def _value(table: Any, key: Key) -> Any:
    for part in key:
        table = table[part]
    return table


def _in_words(what: str, kind: Any, value: Any) -> str:
    noted = notes(kind)
    if noted.noun and isinstance(value, str):
        return f"{value!r} is no {noted.noun}; use {noted.rule}"
    if choices(kind):
        return f"expected {' or '.join(choices(kind))}, got {value!r}"
    what = what[:1].lower() + what[1:].replace("`object`", "a table")
    scalar = isinstance(value, int | float | str)
    return f"{what}, got {value!r}" if scalar and what.startswith("expected `") and "got" not in what else what
