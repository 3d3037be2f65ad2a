"""Layers of configuration: what each source gives, and the whole, with where every value comes from."""

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fedelta.config._bind import convert
from fedelta.config._settings import Key, dotted
from fedelta.errors import ConfigError

T = TypeVar("T")

_WORD = re.compile(r"\w+(?:\.\w+)*")


class Kind(enum.Enum):
    """The kinds of sources."""

    FILE = enum.auto()
    ENVIRONMENT = enum.auto()
    FLAG = enum.auto()


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a value comes from."""

    kind: Kind
    name: str
    """The file, the variable or the flag."""

    def where(self, key: Key, given: Key) -> str:
        """What errors call the value at `key`, where the source gave the one at `given`, which may hold it."""
        named_after = not any(isinstance(part, str) for part in key[len(given) :])
        return self.name if self.kind is not Kind.FILE and named_after else f"{self.name}: {dotted(key)}"


@dataclass(frozen=True, kw_only=True)
class Given:
    """A value that a source gives."""

    key: tuple[str, ...]
    value: Any
    """Plain, as TOML would give it; or a `Secret`."""
    source: Source


class Layers(Generic[T]):
    """What the sources of a configuration give together. What is added later wins."""

    def __init__(self, schema: type[T], ways: Mapping[Key, str] | None = None) -> None:
        """`ways`: for each setting how else than in a file it can be given."""
        self.schema = schema
        self.table: dict[str, Any] = {}
        """The merged values, as TOML would give them."""
        self.file = ""
        """The name of the file; empty where there is none."""
        self._ways = ways or {}
        self._sources: dict[Key, Source] = {}

    def add(self, layer: Iterable[Given]) -> None:
        """Puts values on top of what is there. A table or list that is given as one value replaces the one there."""
        for given in layer:
            if self._place(given):
                self._forget(given.key)
            self._sources[given.key] = given.source

    def _place(self, given: Given) -> bool:
        """Puts the value into the table; whether another was there."""
        table = self.table
        for depth, name in enumerate(given.key[:-1], start=1):
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                outer = given.key[:depth]
                raise ConfigError(f"{given.source.name}: {dotted(outer)} is no table, see {self.name(outer)}")
        replaced = given.key[-1] in table
        table[given.key[-1]] = given.value
        return replaced

    def _forget(self, key: Key) -> None:
        for known in [known for known in self._sources if known[: len(key)] == key]:
            del self._sources[known]

    def bind(self) -> T:
        """The configuration. Raises `ConfigError`."""
        return convert(self.schema, self.table, self)

    @property
    def overrides(self) -> Mapping[Key, Source]:
        """What does not come from the file."""
        return {key: source for key, source in self._sources.items() if source.kind is not Kind.FILE}

    def source(self, key: Key) -> Source | None:
        """Where the value at a key comes from. None: it is the default."""
        given = self._given(key)
        return self._sources[given] if given else None

    def _given(self, key: Key) -> Key:
        """The key at which the value was given: this one, or that of a table or list around it; empty for none."""
        return next((key[:length] for length in range(len(key), 0, -1) if key[:length] in self._sources), ())

    # How errors name things: see `Origin`.

    def name(self, key: Key) -> str:
        """The file, variable or flag that gives the value."""
        within = (source for known, source in self._sources.items() if key and known[: len(key)] == key)
        source = self.source(key) or next(within, None)
        return source.name if source is not None else self.file

    def where(self, key: Key) -> str:
        """File and key; or the variable or flag, with the key where that is not what it is named after."""
        source = self.source(key)
        return source.where(key, self._given(key)) if source else ": ".join(filter(None, (self.file, dotted(key))))

    def remedy(self, key: Key) -> str:
        """How to give a value that is missing."""
        return f"; {self._ways[key]}" if key in self._ways else ""

    def involved(self, complaint: str) -> str:
        """Where the values come from that a complaint names, unless all are from the file."""
        words = set(_WORD.findall(complaint))
        named = {dotted(key): source for key, source in self._sources.items() if dotted(key) in words}
        if all(source.kind is Kind.FILE for source in named.values()):
            return ""
        return f" ({', '.join(f'{key} is from {source.name}' for key, source in named.items())})"


def flat(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The values of a table and of those within it, with their keys. Lists and empty tables are values."""
    for name, value in table.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, (*path, name))
        else:
            yield (*path, name), value
