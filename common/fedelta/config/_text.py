"""Values as people type them, in the environment and on the command line."""

import contextlib
import json
import tomllib
import typing
from pathlib import Path
from typing import Any

from fedelta.config._kinds import bare, element, is_table, schema_of
from fedelta.config._settings import hints

_BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def read(text: str, kind: Any) -> Any:
    """The plain value that a text stands for, where a value of type `kind` is expected.

    Raises `ValueError` where it stands for none. Bounds and patterns are not checked here.
    """
    found = bare(kind)
    if element(kind) is not None:
        return _list(text, element(kind))
    if found is typing.Any or is_table(kind) or schema_of(kind) is not None:
        return _free(text)
    # Types that read themselves, such as Duration, take numbers and texts.
    reader = _number_or_text if hasattr(found, "parse") else _READERS.get(found, _string)
    return reader(text)


def read_one(text: str, kind: Any) -> Any:
    """The same for one element of a list; of a table it is the first key's value."""
    schema = schema_of(kind)
    if schema is None:
        return read(text, kind)
    return {next(iter(hints(schema))): text}


def _list(text: str, kind: Any) -> Any:
    """A TOML array, or words between commas."""
    if text.lstrip().startswith("["):
        return _toml(text)
    return [read_one(word.strip(), kind) for word in text.split(",") if word.strip()]


def _free(text: str) -> Any:
    """A TOML value; @FILE for what a file holds; else the text itself."""
    if text.startswith("@"):
        return _file(Path(text[1:]))
    try:
        return _toml(text)
    except ValueError:
        # A bare word. What is meant as an array, a table or a string and is none is a mistake, not a word.
        if text.lstrip()[:1] in ("[", "{", '"', "'"):
            raise
        return text


def _toml(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{text!r} is not TOML: {error}") from None
    if found.keys() != {"value"}:
        raise ValueError(f"{text!r} is more than one value")
    return found["value"]


def _file(path: Path) -> Any:
    loaders = {".json": json.loads, ".toml": tomllib.loads}
    if path.suffix not in loaders:
        raise ValueError(f"@{path}: name a .json or .toml file; a string that begins with @ stands in quotes: '\"@…\"'")
    try:
        found = loaders[path.suffix](path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ValueError(f"{path} is not {path.suffix[1:].upper()}: {error}") from None
    if _has_null(found):
        raise ValueError(f"{path} holds a null, which TOML does not know; leave it out")
    return found


def _has_null(value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(map(_has_null, inner))


def _string(text: str) -> str:
    """The text; without its quotes where it is a TOML string."""
    if text[:1] in ('"', "'"):
        return str(_toml(text))
    return text


def _boolean(text: str) -> bool:
    found = _BOOLEANS.get(text.strip().lower())
    if found is None:
        raise ValueError(f"expected true or false, got {text!r}")
    return found


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text!r}") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"expected a number, got {text!r}") from None


def _number_or_text(text: str) -> float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


_READERS: dict[Any, Any] = {bool: _boolean, int: _integer, float: _number}
