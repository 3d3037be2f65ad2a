"""The JSON schema of a configuration, for editors that complete and check TOML files."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from fedelta.config._kinds import given, schema_of
from fedelta.config._part import Part
from fedelta.config._settings import Setting, hints, settings
from fedelta.config._show import plain

DIALECT = "https://json-schema.org/draft/2020-12/schema"


OfPart = Callable[[type[Part]], Mapping[str, Any]]
"""What a table that names a part looks like."""


def _any_part(kind: type[Part]) -> Mapping[str, Any]:
    """A part with any name and any keys."""
    return kind.JSON_SCHEMA


def json_schema(schema: type, title: str, of_part: OfPart = _any_part) -> dict[str, Any]:
    """The JSON schema of the files that describe a `schema`: tables of a dataclass have its keys and no others."""
    return {"$schema": DIALECT, "title": title, **table_schema(schema, of_part)}


def table_schema(schema: type, of_part: OfPart = _any_part) -> dict[str, Any]:
    """The JSON schema of a dataclass's table."""
    leaves = {each.path[0]: each for each in settings(schema) if len(each.path) == 1}
    tables = {name: schema_of(kind) for name, kind in hints(schema).items() if schema_of(kind) is not None}
    inner = {name: table_schema(table, of_part) for name, table in tables.items()}
    return {
        "description": inspect.cleandoc(schema.__doc__ or ""),
        "type": "object",
        "properties": inner | {name: _value(leaf, of_part) for name, leaf in leaves.items()},
        "required": [name for name, table in inner.items() if table["required"]]
        + [name for name, leaf in leaves.items() if leaf.required],
        "additionalProperties": False,
        **getattr(schema, "JSON_SCHEMA", {}),
    }


def _value(setting: Setting, of_part: OfPart) -> dict[str, Any]:
    def of_type(kind: Any) -> dict[str, Any]:
        """What a type that reads itself says of how it is written; else it is written as text."""
        if isinstance(kind, type) and issubclass(kind, Part):
            return dict(of_part(kind))
        return dict(getattr(kind, "JSON_SCHEMA", {"type": "string"}))

    # TOML has no null: what may be absent is absent.
    found = msgspec.json.schema(given(setting.kind), schema_hook=of_type)
    default = {} if setting.required or setting.default is None else {"default": plain(setting.default)}
    described: dict[str, Any] = {"description": setting.doc, **_portable(found), **default}
    return described


def _portable(found: Any) -> Any:
    """Patterns as JSON schema writes them: the end is `$`, which there means nothing but the end."""
    if isinstance(found, dict):
        return {key: _ended(value) if key == "pattern" else _portable(value) for key, value in found.items()}
    return [_portable(each) for each in found] if isinstance(found, list) else found


def _ended(pattern: str) -> str:
    return pattern.replace(r"\Z", "$")
