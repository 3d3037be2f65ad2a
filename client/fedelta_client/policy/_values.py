"""[train] and [model_arguments] of a policy: what a job may set, and to what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Self

from fedelta.config import bind
from fedelta.errors import ConfigError

_MOST_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class ValueRule:
    """What a key may be: anything, unless one of these says less. Of a list every item must comply."""

    min: float | None = None
    """The least number."""
    max: float | None = None
    """The greatest number."""
    one_of: tuple[Any, ...] = ()
    """The only values."""

    def __post_init__(self) -> None:
        """Refuses what no value can comply with. Raises `ValueError`."""
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min = {self.min:g} is more than max = {self.max:g}")

    def wants(self, value: Any) -> str:
        """What the policy wants instead; empty where the value complies."""
        if isinstance(value, list):
            return next(filter(None, map(self.wants, value)), "")
        if self.one_of and not any(_same(value, each) for each in self.one_of):
            return f"one of {', '.join(map(_shown, self.one_of))}"
        if self.min is not None and not (_is_number(value) and value >= self.min):
            return f"at least {self.min:g}"
        if self.max is not None and not (_is_number(value) and value <= self.max):
            return f"at most {self.max:g}"
        return ""


class Rules:
    """The rules of a section: what a key may be, by the key or a pattern. Keys without a rule may not be there."""

    def __init__(self, rules: Mapping[str, ValueRule]) -> None:
        self._rules = rules

    @classmethod
    def parse(cls, written: object) -> Self:
        """Reads the section. Raises `ValueError`."""
        if not isinstance(written, Mapping):
            raise ValueError("expected tables by key, such as [train.lr]")
        return cls({key: _rule(key, value) for key, value in written.items()})

    def complaints(self, table: Mapping[str, Any], section: str) -> Iterator[str]:
        """What is wrong with a job's table, key by key. Keys of tables within it are dotted: "optimizer.lr"."""
        for key, value in table.items():
            name = f"{section}.{key}"
            rule = self._for(name.partition(".")[2])
            if rule is not None:
                wanted = rule.wants(value)
                if wanted:
                    yield f"{name} = {_shown(value)}, where it wants {wanted}"
            elif isinstance(value, Mapping) and value:
                yield from self.complaints(value, name)
            else:
                yield f"{name} is not allowed"

    def _for(self, name: str) -> ValueRule | None:
        """The rule for the key: its own, or that of the first pattern that fits."""
        fitting = (rule for pattern, rule in self._rules.items() if fnmatchcase(name, pattern))
        return self._rules.get(name) or next(fitting, None)


def _rule(key: str, written: object) -> ValueRule:
    if not isinstance(written, Mapping):
        raise ValueError(f"{key}: expected a table such as {{ min = 1, max = 10 }}, got {_shown(written)}")
    try:
        return bind(ValueRule, written, key)
    except ConfigError as error:
        raise ValueError(str(error)) from None


def _same(one: Any, other: Any) -> bool:
    # To Python True and 1 are equal.
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"
