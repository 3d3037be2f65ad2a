"""Writes docs/reference/configuration.md from the dataclasses that are the configuration: `make docs`."""

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedelta.config import Address, Duration, JobSpec, Secret, Size
from fedelta.config._kinds import bare, bounds, choices, element, is_table, metadata, schema_of
from fedelta.config._settings import Setting, docs_of, hints, settings
from fedelta.config._show import in_words
from fedelta_client.config import ClientConfig
from fedelta_client.policy import ClockTime, Policy, ValueRule
from fedelta_server.config import ServerConfig

_HEAD = """\
# Configuration reference

<!-- Made by `make docs` from the dataclasses; changes made here are lost. -->

What may be set, where, and what it means. How to use it is in [Configure](../how-to/configure.md).

Values come from a TOML file, then from environment variables, then from the command line; what comes later is stronger.
A *duration* is a number of seconds or a text like `"90s"`, `"5m"` or `"1.5h"`. In a variable, a list is written with
commas (`gpu,site=north`) or as in TOML. A variable that is empty counts as not set; one that begins like those below
and is none of them is an error.
"""

_JOB = """\
## Job files

`fedelta job submit FILE` reads the file; variables and `--set SECTION.KEY=VALUE` change values in what is submitted.
`fedelta job schema` prints this as JSON schema.
"""

_SERVER = """\
## Coordinator

For `fedelta server`, in the file that `--config` (or `FEDELTA_SERVER_CONFIG`) names.
"""

_CLIENT = """\
## Client

For `fedelta client`, in the file that `--config` (or `FEDELTA_CLIENT_CONFIG`) names. `FEDELTA_SERVER` is also read by
the commands for operators, such as `fedelta job`.
"""

_POLICY = """\
## Policy of a site

For `fedelta client --policy FILE`; how to use it is in [Decide what a site takes part in](../how-to/site-control.md).
A *size* is a number of bytes or a text like `"500kB"`, `"20MB"` or `"1.5GB"`.
"""

_TYPES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    Path: "path",
    Duration: "duration",
    Size: "size",
    ClockTime: "time of day",
    Address: "HOST:PORT",
    Secret: "secret: @FILE",
    Any: "any value",
}


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        _JOB,
        *_job(),
        _SERVER,
        _daemon(ServerConfig),
        _CLIENT,
        _daemon(ClientConfig),
        *_lists(ClientConfig),
        _POLICY,
        *_policy(),
    ]
    return "\n".join(parts)


def _job() -> Iterator[str]:
    """A section for each table of a job file."""
    for name, kind in hints(JobSpec).items():
        found = [each for each in settings(JobSpec) if each.path[0] == name]
        schema = schema_of(kind)
        if schema is None:
            yield _titled(docs_of(JobSpec)[name])
            yield f"Any keys. The variables are `{found[0].environment(JobSpec.ENVIRONMENT)}_KEY`.\n"
            continue
        yield _titled(inspect.getdoc(schema))
        columns = ("key", "type", "range", "default", "variable", "meaning")
        yield _table(columns, ([*_cells(each), *_variable(each, JobSpec.ENVIRONMENT), each.doc] for each in found))


def _policy() -> Iterator[str]:
    """A section for each table of a policy file."""
    for name, kind in hints(Policy).items():
        schema = schema_of(kind) or schema_of(element(kind)) or ValueRule
        yield _titled(docs_of(Policy)[name] if schema is ValueRule else inspect.getdoc(schema))
        rows = ([*_cells(each), each.doc] for each in settings(schema))
        yield _table(("key", "type", "range", "default", "meaning"), rows)


def _titled(doc: str | None) -> str:
    """A heading and a sentence from a docstring like "[job]: who it is."."""
    table, _, meaning = (doc or "").partition(": ")
    return f"### `{table}`\n" + (f"\n{meaning[:1].upper()}{meaning[1:]}\n" if meaning else "")


def _daemon(schema: Any) -> str:
    columns = ("key", "type", "range", "default", "variable", "flag", "meaning")
    rows = (
        [*_cells(each), *_variable(each, schema.ENVIRONMENT), _code(", ".join(each.flags)), each.doc]
        for each in settings(schema)
    )
    return _table(columns, rows)


def _lists(schema: type) -> Iterator[str]:
    """A section for each list of tables."""
    for setting in settings(schema):
        inner = schema_of(element(setting.kind))
        if inner is not None:
            yield _titled(inspect.getdoc(inner))
            yield _table(
                ("key", "type", "range", "meaning"), ([*_cells(each)[:3], each.doc] for each in settings(inner))
            )


def _cells(setting: Setting) -> list[str]:
    return [_code(setting.path[-1]), _type(setting.kind), _range(setting.kind), _default(setting)]


def _default(setting: Setting) -> str:
    if setting.required or setting.notes.default:
        return "required" if setting.required else setting.notes.default
    return "" if setting.default in (None, "", (), {}) else _code(in_words(setting.default))


def _variable(setting: Setting, prefix: str) -> Sequence[str]:
    free = "_KEY" if is_table(setting.kind) else ""
    return [_code(setting.environment(prefix) + free)]


def _type(kind: Any) -> str:
    if element(kind) is not None:
        plural = "" if choices(element(kind)) else "s"
        return "list of tables" if schema_of(element(kind)) is not None else f"list of {_type(element(kind))}{plural}"
    if choices(kind):
        return " or ".join(map(_code, choices(kind)))
    return "table" if is_table(kind) else _TYPES.get(bare(kind), "text")


def _range(kind: Any) -> str:
    """The bounds in words."""
    known = [each.extra_json_schema.get("enum") for each in metadata(kind) if getattr(each, "extra_json_schema", None)]
    if known and known[0]:
        return ", ".join(map(_code, known[0]))
    names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return ", ".join(f"{names[name]} {_number(bound)}" for name, bound in bounds(kind).items())


def _number(value: float) -> str:
    return f"{int(value) if value == int(value) else value:,}"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
