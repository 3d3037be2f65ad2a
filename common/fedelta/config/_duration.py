"""Lengths of time as people write them."""

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")


class Duration(float):
    """Seconds, written as a number of seconds or as a string like "90s", "5m" or "1.5h"."""

    JSON_SCHEMA: ClassVar[Mapping[str, Any]] = {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {"type": "string", "pattern": rf"^\s*{_PATTERN.pattern}\s*$"},
        ]
    }
    """What editors check."""

    @classmethod
    def parse(cls, written: object) -> Self:
        """Reads a duration. Raises `ValueError` where it is none, or not positive and finite."""
        seconds = cls._seconds(written)
        if not 0 < seconds < float("inf"):
            raise ValueError(f"a duration must be positive, got {written!r}")
        return cls(seconds)

    @staticmethod
    def _seconds(written: object) -> float:
        if isinstance(written, int | float) and not isinstance(written, bool):
            return float(written)
        match = _PATTERN.fullmatch(written.strip()) if isinstance(written, str) else None
        if match is None:
            raise ValueError(f'expected a duration such as "90s", "5m" or "1h", got {written!r}')
        return float(match[1]) * _UNITS[match[2]]

    def in_words(self) -> str:
        """As people write it, in the greatest unit of which it is a whole number: "1h", "90s"."""
        for unit in ("d", "h", "m", "s"):
            if self % _UNITS[unit] == 0:
                return f"{self / _UNITS[unit]:.0f}{unit}"
        return f"{self * 1000:g}ms"
