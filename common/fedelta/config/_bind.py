"""Binds a table of plain values to a dataclass and says exactly what is wrong with it."""

import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from fedelta.config._duration import Duration
from fedelta.errors import ConfigError

T = TypeVar("T")

_WHERE = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<key>.*)`")


def bind(schema: type[T], table: Mapping[str, Any], source: str) -> T:
    """Makes a `schema` from a table. Raises `ConfigError` naming `source`, the key and the remedy."""
    _check_keys(schema, table, source, "")
    try:
        return msgspec.convert(dict(table), schema, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(_explain(str(error), source)) from None


def _check_keys(schema: Any, table: Mapping[str, Any], source: str, path: str) -> None:
    hints = typing.get_type_hints(schema)
    known = [field.name for field in dataclasses.fields(schema)]
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{source}: unknown key {path + key!r}{_suggest(key, known, path)}")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            _check_keys(hints[key], value, source, f"{path}{key}.")


def _suggest(key: str, known: list[str], path: str) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {path + near[0]!r}?"
    return f"; known are {', '.join(path + name for name in known)}"


def _decode(kind: type, value: Any) -> Any:
    if kind is Duration:
        return Duration.parse(value)
    raise NotImplementedError(kind)


def _explain(complaint: str, source: str) -> str:
    match = _WHERE.match(complaint)
    what, path = (match["what"], match["path"]) if match else (complaint, None)
    missing = _MISSING.fullmatch(what)
    if missing:
        return f"{source}: {path + '.' if path else ''}{missing['key']} is missing"
    what = what[:1].lower() + what[1:].replace("`object`", "a table")
    return f"{source}: {path}: {what}" if path else f"{source}: {what}"
