"""One tensor of a model, as a flat sequence of elements that can be read and written in blocks."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fedelta.errors import ModelMismatchError
from fedelta.tensors import DType, Schema, TensorSpec

Array = npt.NDArray[Any]


class Cell(Protocol):
    """One tensor. Elements are in C order whatever its strides; bfloat16 is uint16, as numpy stores it."""

    @property
    def dtype(self) -> DType:
        """The type of its elements."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""

    def read(self, start: int, stop: int) -> Array:
        """Elements from `start` to `stop`: the tensor's own memory where that is possible, else a copy."""

    def room(self, start: int, stop: int) -> Array:
        """Memory to put new elements into: the tensor's own where that is possible."""

    def put(self, start: int, values: Array) -> None:
        """Takes over what was put into the memory that `room` gave."""


class Source(Protocol):
    """A model: where its tensors are found, afresh for each use, since training may replace them."""

    def cells(self, *, writable: bool) -> Mapping[str, Cell]:
        """The tensors by name. Names of one tied tensor give one and the same cell."""


class Selected:
    """Some of the tensors of a source."""

    def __init__(self, source: Source, names: frozenset[str]) -> None:
        self._source = source
        self.names = names

    def cells(self, *, writable: bool) -> Mapping[str, Cell]:
        """See `Source`."""
        return {name: cell for name, cell in self._source.cells(writable=writable).items() if name in self.names}


class ArrayCell:
    """A tensor in the memory of this process, with any strides."""

    def __init__(self, array: Array, dtype: DType) -> None:
        self.dtype = dtype
        self.shape = array.shape
        self._array = array
        self._flat = array.reshape(-1) if array.flags.c_contiguous else None

    def read(self, start: int, stop: int) -> Array:
        """See `Cell`."""
        if self._flat is None:
            return np.asarray(self._array.flat[start:stop])
        return self._flat[start:stop]

    def room(self, start: int, stop: int) -> Array:
        """See `Cell`."""
        if self._flat is None:
            return np.empty(stop - start, self.dtype.storage)
        return self._flat[start:stop]

    def put(self, start: int, values: Array) -> None:
        """See `Cell`."""
        if self._flat is None:
            self._array.flat[start : start + len(values)] = values


def own_schema(cells: Mapping[str, Cell]) -> Schema:
    """The schema of a model on its own: a tied tensor goes by the first of its names in the alphabet."""
    first: dict[int, str] = {}
    for name in sorted(cells):
        first.setdefault(id(cells[name]), name)
    return Schema.of(_spec(name, cells[name]) for name in first.values())


def fit(job: Schema, cells: Mapping[str, Cell]) -> None:
    """Checks that the model's tensors are those of `job`; raises `ModelMismatchError` naming the first that differs.

    Of a tied tensor any of its names will do.
    """
    named = {name: cell for name, cell in cells.items() if name in job.by_name}
    covered = {id(cell) for cell in named.values()}
    left = {name: cell for name, cell in cells.items() if id(cell) not in covered}
    found = Schema.of(_spec(name, cell) for name, cell in (named | left).items())
    difference = job.difference(found)
    if difference is not None:
        raise ModelMismatchError(f"the learner's model does not fit the job's model: {difference}")


def _spec(name: str, cell: Cell) -> TensorSpec:
    return TensorSpec(name, cell.dtype, cell.shape)
