"""Settings in words, for reference pages and for people on a terminal: their types, their ranges, their defaults.

`quote` is what is done with words that stand for themselves, such as a default.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedelta.config._address import Address
from fedelta.config._duration import Duration
from fedelta.config._kinds import bare, bounds, choices, element, is_table, metadata, schema_of
from fedelta.config._secret import Secret
from fedelta.config._settings import Setting
from fedelta.config._show import in_words
from fedelta.config._size import Size

_TYPES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
    Duration: "duration",
    Size: "size",
    Address: "HOST:PORT",
    Secret: "secret: @FILE",
    Any: "any value",
}


def type_in_words(kind: Any, quote: Callable[[str], str] = str) -> str:
    """What a value of a type is. A type of one's own may say so with a `NOUN`."""
    if element(kind) is not None:
        plural = "" if choices(element(kind)) else "s"
        tables = schema_of(element(kind)) is not None or is_table(element(kind))
        return "list of tables" if tables else f"list of {type_in_words(element(kind), quote)}{plural}"
    if choices(kind):
        return " or ".join(quote(str(each)) for each in choices(kind))
    found = bare(kind)
    return "table" if is_table(kind) else str(_TYPES.get(found) or getattr(found, "NOUN", "text"))


def range_in_words(kind: Any, quote: Callable[[str], str] = str) -> str:
    """The bounds of a type; empty where it has none."""
    known = [each.extra_json_schema.get("enum") for each in metadata(kind) if getattr(each, "extra_json_schema", None)]
    if known and known[0]:
        return ", ".join(map(quote, known[0]))
    names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{names[name]} {_number(bound)}" for name, bound in bounds(kind).items())


def default_in_words(setting: Setting, quote: Callable[[str], str] = str) -> str:
    """The default; "required" where there is none, empty where it says nothing."""
    if setting.required or setting.notes.default:
        return "required" if setting.required else setting.notes.default
    return "" if setting.default in (None, "", (), {}) else quote(in_words(setting.default))


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"
