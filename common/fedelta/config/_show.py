"""A configuration for people: every value, and where it comes from."""

import dataclasses
import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from fedelta.config._duration import Duration
from fedelta.config._kinds import element, is_table, schema_of
from fedelta.config._layers import Layers, flat
from fedelta.config._part import Part
from fedelta.config._settings import Key, Setting, dotted, settings

T = TypeVar("T")

DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One value of a configuration."""

    key: str
    value: Any
    """Plain, as JSON has it; a secret is "***"."""
    source: str
    """The file, the variable, the flag or "default"."""
    words: str
    """The value for people."""


def shown(layers: Layers[T], config: T) -> Iterator[Shown]:
    """All values of the configuration that came out of the layers, in the order of the schema."""
    for setting in settings(layers.schema):
        for key, value in _values(setting, functools.reduce(getattr, setting.path, config)):
            source = layers.source(key)
            words = in_words(value) if value is not None else f"({setting.notes.default or 'none'})"
            yield Shown(key=dotted(key), value=plain(value), source=source.name if source else DEFAULT, words=words)


def _values(setting: Setting, value: Any) -> Iterator[tuple[Key, Any]]:
    """The value of a setting; of a table or of a list of tables, what is in there."""
    if is_table(setting.kind) and value:
        yield from flat(_table(value), setting.path)
    elif is_table(element(setting.kind)) and value:
        for index, part in enumerate(value):
            for key, each in flat(_table(part)):
                yield (*setting.path, index, *key), each
    elif schema_of(element(setting.kind)) is not None:
        for index, part in enumerate(value):
            for field in dataclasses.fields(part):
                if getattr(part, field.name) is not None:
                    yield (*setting.path, index, field.name), getattr(part, field.name)
    else:
        yield setting.path, value


def _table(value: Any) -> Mapping[str, Any]:
    return value.table if isinstance(value, Part) else value


def plain(value: Any) -> Any:
    """A value as JSON has it. Secrets stay hidden."""
    return msgspec.to_builtins(value, enc_hook=_encode)


def _encode(value: Any) -> Any:
    """Parts as tables; subclasses of numbers and strings as what they are; the rest as text."""
    if isinstance(value, Part):
        return value.table
    base = next((kind for kind in (int, float, str) if isinstance(value, kind)), str)
    return base(value)


def in_words(value: Any) -> str:
    """A value for people, in one line."""
    if isinstance(value, Duration):
        return value.in_words()
    found = plain(value)
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False) if found is not None else ""
