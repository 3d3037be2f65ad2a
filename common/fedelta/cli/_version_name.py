"""Versions of a model as they are written on the command line."""

import re
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from fedelta.config import Version

_NAMES: "dict[str, Version]" = {"latest": "latest", "best": "best"}
_NUMBER = re.compile("[0-9]{1,9}")


class VersionName(click.ParamType["Version"]):
    """A version of a job's model: a number, "latest" or "best"."""

    name = "version"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """How help and errors call it."""
        del param, ctx
        return "N|latest|best"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Version":
        """The version that was written. Fails where it is none."""
        if value in _NAMES:
            return _NAMES[value]
        if not _NUMBER.fullmatch(value):
            self.fail(f"{value!r} is neither the number of a version nor latest nor best", param, ctx)
        return int(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names, for shells."""
        del ctx, param
        return [CompletionItem(name) for name in _NAMES if name.startswith(incomplete)]
