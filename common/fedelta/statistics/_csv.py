"""Columns of CSV files."""

import csv
import itertools
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedelta.errors import LearnerError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
"""Cells that say that a value is missing, in small letters."""

_SEPARATORS = ",;\t"
_ROWS = 10_000
"""Rows that are held as text at a time."""

Cells = NDArray[Any]


class _NotNumericError(Exception):
    """A column turned out to hold text."""

    def __init__(self, column: str) -> None:
        self.column = column


def read_columns(path: Path) -> dict[str, Cells]:
    """The columns, by the names in the first line, of a CSV file, or of all `*.csv` of a folder one after the other.

    A column in which every cell is a number or missing (empty, NA, NaN, null, none) is float64, NaN for what is
    missing; any other is text. Cells are separated by commas, semicolons or tabs, whichever the first line has most of.
    Raises `LearnerError` naming the file and line.
    """
    files, text = _files(path), set[str]()
    while True:
        try:
            return _read(files, text)
        except _NotNumericError as found:
            # From the start again: of what was read as numbers the text is gone.
            text.add(found.column)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.csv"))
    if not found:
        raise LearnerError(f"{path}: there is no *.csv in this folder")
    return found


def _read(files: Sequence[Path], text: Collection[str]) -> dict[str, Cells]:
    blocks: dict[str, list[Cells]] = {}
    for path in files:
        found = _blocks(path, text)
        header = next(found)
        if blocks and header.keys() != blocks.keys():
            odd = sorted(header.keys() ^ blocks.keys())[0]
            raise LearnerError(f"{path}: column {odd!r} is not in all files of the folder")
        for block in itertools.chain([header], found):
            for name, cells in block.items():
                blocks.setdefault(name, []).append(cells)
    return {name: np.concatenate(cells) for name, cells in blocks.items()}


def _blocks(path: Path, text: Collection[str]) -> Iterator[dict[str, Cells]]:
    """Some rows at a time, by column; first the header, without rows."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=_separator(file.readline()), strict=True)
            file.seek(0)
            names = _header(path, next(rows, []))
            yield {name: _cells(name, (), text) for name in names}
            while block := list(itertools.islice(_full(path, rows, len(names)), _ROWS)):
                columns = zip(names, zip(*block, strict=True), strict=True)
                yield {name: _cells(name, cells, text) for name, cells in columns}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LearnerError(f"{path}: cannot be read as CSV: {getattr(error, 'strerror', None) or error}") from None


def _separator(header: str) -> str:
    return max(_SEPARATORS, key=header.count)


def _header(path: Path, names: Sequence[str]) -> list[str]:
    found = [name.strip() for name in names]
    if not found:
        raise LearnerError(f"{path}: is empty; the first line must name the columns")
    odd = next((name for name in found if not name or found.count(name) > 1), None)
    if odd is not None:
        raise LearnerError(
            f"{path}: the first line " + (f"names {odd!r} twice" if odd else "has a cell without a name")
        )
    return found


def _full(path: Path, rows: Any, width: int) -> Iterator[list[str]]:
    """The rows that are not blank. Raises `LearnerError` for one that is too long or too short."""
    for row in rows:
        if row and len(row) != width:
            raise LearnerError(f"{path}: line {rows.line_num} has {len(row)} cells, the first line {width}")
        if row:
            yield row


def _cells(name: str, cells: Sequence[str], text: Collection[str]) -> Cells:
    if name in text:
        return np.array(cells, dtype=np.str_)
    try:
        return np.array([_number(cell) for cell in cells], dtype=np.float64)
    except ValueError:
        raise _NotNumericError(name) from None


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        if cell.strip().lower() in MISSING:
            return float("nan")
        raise
