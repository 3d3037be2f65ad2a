"""What one site adds to the model of a statistics job."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedelta.errors import LearnerError
from fedelta.statistics import _order
from fedelta.statistics._sheet import SITES, Column, Sheet

MOST = 1e65
"""Of values beyond this no sums are made: the coordinator takes sums of squares up to 1e140."""


def is_numeric(cells: NDArray[Any]) -> bool:
    """Whether a column can be summed: booleans, integers and floats can."""
    return cells.dtype.kind in "biuf"


@dataclass(frozen=True)
class Values:
    """A site's own values of one column."""

    present: NDArray[np.float64]
    missing: int

    @classmethod
    def of(cls, column: str, cells: NDArray[Any]) -> "Values":
        """From a flat array of numbers in which NaN means missing. Raises `LearnerError` naming the column."""
        if not is_numeric(cells):
            raise LearnerError(f"column {column!r} is not numeric")
        values = cells.astype(np.float64)
        present = values[~np.isnan(values)]
        if not (np.abs(present) <= MOST).all():
            raise LearnerError(
                f"column {column!r} holds infinite values, or some beyond {MOST:g}; correct them, or make them missing"
            )
        return cls(present, len(values) - len(present))

    @cached_property
    def keys(self) -> _order.Keys:
        """See `sorted_keys`."""
        return _order.sorted_keys(self.present)


def answer(sheet: Sheet, values: dict[str, Values]) -> None:
    """Adds the site's numbers for the next round, if there is one. `values` has all columns of the sheet."""
    at = sheet.rounds_done
    if at == len(sheet.sites):
        return
    sheet.arrays[SITES][at] += 1
    for column in sheet.columns:
        mine = values[column.name]
        if at == 0:
            _add_sums(column, mine)
        elif at == 1:
            _add_deviations(column, mine)
        _add_order(column, mine, sheet.levels, at)


def _add_sums(column: Column, mine: Values) -> None:
    column.add("count", len(mine.present))
    column.add("missing", mine.missing)
    column.add("sum", math.fsum(mine.present.tolist()))
    column.add("sum_of_squares", math.fsum(np.square(mine.present).tolist()))
    edges = column.find("edges")
    if edges is not None:
        column.add("histogram", _histogram(mine.present, edges))


def _histogram(values: NDArray[np.float64], edges: NDArray[Any]) -> NDArray[np.int64]:
    """Counts below, in each bin, and above. A bin holds its lower edge, the last one both, as in numpy."""
    counts = np.histogram(values, edges)[0]
    return np.concatenate([[np.sum(values < edges[0])], counts, [np.sum(values > edges[-1])]])


def _add_deviations(column: Column, mine: Values) -> None:
    deviations = mine.present - column.mean
    column.add("deviations", math.fsum(deviations.tolist()))
    column.add("squared_deviations", math.fsum(np.square(deviations).tolist()))


def _add_order(column: Column, mine: Values, levels: NDArray[Any], at: int) -> None:
    order = column.find("order")
    if order is None or (at and not column.count):
        return
    for target, level in enumerate(levels):
        interval = _order.found(level, column.count, order[:at, target]) if at else _order.Interval()
        order[at, target] += interval.count(mine.keys)
