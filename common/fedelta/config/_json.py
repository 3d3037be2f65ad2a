"""The JSON schema of a configuration, for editors that complete and check TOML files."""

import inspect
from typing import Any

import msgspec

from fedelta.config._kinds import given, schema_of
from fedelta.config._settings import Setting, hints, settings
from fedelta.config._show import plain

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(schema: type, title: str) -> dict[str, Any]:
    """The JSON schema of the files that describe a `schema`: tables of a dataclass have its keys and no others."""
    return {"$schema": DIALECT, "title": title, **_table(schema)}


def _table(schema: type) -> dict[str, Any]:
    leaves = {each.path[0]: each for each in settings(schema) if len(each.path) == 1}
    inner = {name: _table(schema_of(kind)) for name, kind in hints(schema).items() if schema_of(kind) is not None}
    return {
        "description": inspect.cleandoc(schema.__doc__ or ""),
        "type": "object",
        "properties": inner | {name: _value(leaf) for name, leaf in leaves.items()},
        "required": [name for name, table in inner.items() if table["required"]]
        + [name for name, leaf in leaves.items() if leaf.required],
        "additionalProperties": False,
        **getattr(schema, "JSON_SCHEMA", {}),
    }


def _value(setting: Setting) -> dict[str, Any]:
    # TOML has no null: what may be absent is absent.
    found = msgspec.json.schema(given(setting.kind), schema_hook=_of_type)
    default = {} if setting.required or setting.default is None else {"default": plain(setting.default)}
    described: dict[str, Any] = {"description": setting.doc, **_portable(found), **default}
    return described


def _of_type(kind: Any) -> dict[str, Any]:
    """What a type that reads itself says of how it is written; else it is written as text."""
    return dict(getattr(kind, "JSON_SCHEMA", {"type": "string"}))


def _portable(found: Any) -> Any:
    """Patterns as JSON schema writes them: the end is `$`, which there means nothing but the end."""
    if isinstance(found, dict):
        return {key: _ended(value) if key == "pattern" else _portable(value) for key, value in found.items()}
    return [_portable(each) for each in found] if isinstance(found, list) else found


def _ended(pattern: str) -> str:
    return pattern.replace(r"\Z", "$")
