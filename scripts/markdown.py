"""What reference pages are written with."""

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

from fedelta.config._describe import default_in_words, range_in_words, type_in_words
from fedelta.config._settings import Setting


def code(text: str) -> str:
    """A word that stands for itself."""
    return f"`{text}`" if text else ""


def cells(setting: Setting) -> list[str]:
    """A setting's key, type, range and default."""
    words = type_in_words(setting.kind, code), range_in_words(setting.kind, code), default_in_words(setting, code)
    return [code(setting.path[-1]), *words]


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with its head."""
    lines = [columns, ["---"] * len(columns), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def documentation(of: Any) -> str:
    """A docstring's text."""
    return inspect.getdoc(of) or ""
