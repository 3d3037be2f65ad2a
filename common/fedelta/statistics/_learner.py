"""The learner that answers statistics jobs."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from fedelta.errors import LearnerError
from fedelta.learner import Learner, Task, TrainResult
from fedelta.statistics._answer import Values, answer, is_numeric
from fedelta.statistics._csv import read_columns
from fedelta.statistics._request import LEARNER, Request
from fedelta.statistics._sheet import LEVELS, Array, Sheet, empty


class Statistics(Learner):
    """Adds this site's counts and sums to those of the others; nothing else leaves the site.

    Derive from it and define `columns`. Jobs come from `fedelta stats submit`; they need the aggregator "sum".
    """

    name = LEARNER

    smallest_group: ClassVar[int] = 5
    """With fewer rows, or fewer values in a column (but more than none), the site refuses to answer."""
    gives_single_values: ClassVar[bool] = True
    """False: the site refuses minimum, maximum and quantiles, which are values of single rows."""

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """The site's data: flat arrays of numbers by column, all of one length. NaN is a missing value.

        Columns of another type are left out. Called once.
        """
        raise NotImplementedError(f"{type(self).__name__} must define columns()")

    @cached_property
    def _columns(self) -> dict[str, NDArray[Any]]:
        found = {name: np.asarray(cells) for name, cells in self.columns().items()}
        if len({cells.shape for cells in found.values()}) > 1 or any(cells.ndim != 1 for cells in found.values()):
            raise LearnerError("columns() must give flat arrays of one length, one value for each row")
        return found

    @cached_property
    def _prepared(self) -> dict[str, Values]:
        return {}

    @property
    def _rows(self) -> int:
        return len(next(iter(self._columns.values()), ()))

    def model(self, **arguments: Any) -> dict[str, Array]:
        """The sums of nobody: zeros. The arguments are those of `fedelta.statistics.Request`."""
        request = Request.of(arguments)
        return empty(request, request.among([name for name, cells in self._columns.items() if is_numeric(cells)]))

    def train(self, model: dict[str, Array], task: Task) -> TrainResult:
        """Adds this site's numbers for the round."""
        try:
            sheet = Sheet(model)
            self._check_disclosure(model)
            answer(sheet, {column.name: self._values(column.name) for column in sheet.columns})
        except LearnerError as error:
            raise LearnerError(f"site {task.client!r}: {error}") from None
        return TrainResult(examples=self._rows)

    def evaluate(self, model: Any, task: Task) -> NoReturn:  # noqa: ARG002  whatever they are
        """There is nothing to evaluate."""
        raise LearnerError('statistics are not evaluated; say "every = 0" in the job\'s [evaluate]')

    def _check_disclosure(self, model: Mapping[str, Array]) -> None:
        if self._rows < max(self.smallest_group, 1):
            raise LearnerError(f"no answer for fewer than {max(self.smallest_group, 1)} rows")
        if LEVELS in model and not self.gives_single_values:
            raise LearnerError("no minima, maxima and quantiles are given here: they are values of single rows")

    def _values(self, column: str) -> Values:
        if column not in self._columns:
            raise LearnerError(f"there is no column {column!r}")
        if column not in self._prepared:
            self._prepared[column] = Values.of(column, self._columns[column])
        found = self._prepared[column]
        if 0 < len(found.present) < self.smallest_group:
            raise LearnerError(f"no answer for column {column!r} with fewer than {self.smallest_group} values")
        return found


class CsvStatistics(Statistics):
    """Statistics of a CSV file, or of all CSV files of a folder: `--data north.csv`. See `read_columns`."""

    def setup(self) -> None:
        """Reads the files, and says which columns are not numeric."""
        text = [name for name, cells in self._columns.items() if not is_numeric(cells)]
        if text:
            print(f"not numeric, left out of statistics: {', '.join(text)}")

    def columns(self) -> Mapping[str, NDArray[Any]]:
        """See `Statistics`."""
        return read_columns(self.data)
