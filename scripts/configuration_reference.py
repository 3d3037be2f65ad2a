"""Writes docs/reference/configuration.md from the dataclasses that are the configuration: `make docs`."""

import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedelta.config import JobSpec
from fedelta.config._kinds import element, is_table, schema_of
from fedelta.config._settings import Setting, docs_of, hints, settings
from fedelta_client.config import ClientConfig
from fedelta_client.policy import Policy, ValueRule
from fedelta_server.config import ServerConfig
from scripts.markdown import cells, code, table

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
`fedelta job schema` prints this as JSON schema. [Parts of plans](parts.md) has the keys of the parts.
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
            yield _free(found[0])
            continue
        yield _titled(inspect.getdoc(schema))
        columns = ("key", "type", "range", "default", "variable", "meaning")
        yield table(columns, ([*cells(each), *_variable(each, JobSpec.ENVIRONMENT), each.doc] for each in found))


def _free(setting: Setting) -> str:
    """A table, or a list of tables, whose keys the schema does not say."""
    variable = setting.environment(JobSpec.ENVIRONMENT)
    if element(setting.kind) is not None:
        return f"Tables with `name` and the keys of the part of that name. The variable is `{variable}`.\n"
    keys = "`name` and the keys of the part of that name" if setting.default else "Any keys"
    return f"{keys}. The variables are `{variable}_KEY`.\n"


def _policy() -> Iterator[str]:
    """A section for each table of a policy file."""
    for name, kind in hints(Policy).items():
        schema = schema_of(kind) or schema_of(element(kind)) or ValueRule
        yield _titled(docs_of(Policy)[name] if schema is ValueRule else inspect.getdoc(schema))
        rows = ([*cells(each), each.doc] for each in settings(schema))
        yield table(("key", "type", "range", "default", "meaning"), rows)


def _titled(doc: str | None) -> str:
    """A heading and a sentence from a docstring like "[job]: who it is."."""
    table, _, meaning = (doc or "").partition(": ")
    return f"### `{table}`\n" + (f"\n{meaning[:1].upper()}{meaning[1:]}\n" if meaning else "")


def _daemon(schema: Any) -> str:
    columns = ("key", "type", "range", "default", "variable", "flag", "meaning")
    rows = (
        [*cells(each), *_variable(each, schema.ENVIRONMENT), code(", ".join(each.flags)), each.doc]
        for each in settings(schema)
    )
    return table(columns, rows)


def _lists(schema: type) -> Iterator[str]:
    """A section for each list of tables."""
    for setting in settings(schema):
        inner = schema_of(element(setting.kind))
        if inner is not None:
            yield _titled(inspect.getdoc(inner))
            yield table(("key", "type", "range", "meaning"), ([*cells(each)[:3], each.doc] for each in settings(inner)))


def _variable(setting: Setting, prefix: str) -> Sequence[str]:
    free = "_KEY" if is_table(setting.kind) else ""
    return [code(setting.environment(prefix) + free)]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
