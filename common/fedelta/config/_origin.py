"""Where version 0 of a job comes from, when it is another job's version."""

import re
from typing import Literal, TypeAlias

from fedelta._names import NAME_PATTERN

Version: TypeAlias = int | Literal["latest", "best"]

_NAMED: dict[str, Version] = {"latest": "latest", "best": "best"}
_ORIGIN = re.compile(rf"job:(?P<job>{NAME_PATTERN})@(?P<version>[0-9]{{1,9}}|latest|best)")

ORIGIN_SCHEMA = {
    "anyOf": [{"pattern": f"^{re.sub(r'[?]P<[a-z]+>', '', _ORIGIN.pattern)}$"}, {"not": {"pattern": "^job:"}}]
}
"""The same for editors."""


def parse_origin(init: str) -> tuple[str, Version] | None:
    """The job and the version that a `model.init` of the form "job:ID@VERSION" names; None for other forms.

    Raises `ValueError` for what begins so and is malformed.
    """
    if not init.startswith("job:"):
        return None
    found = _ORIGIN.fullmatch(init)
    if found is None:
        raise ValueError(
            f"model.init = {init!r} names no version of a job; say job:ID@VERSION, where VERSION is a number, latest "
            'or best: "job:digits-1@best"'
        )
    return found["job"], _NAMED.get(found["version"]) or int(found["version"])
