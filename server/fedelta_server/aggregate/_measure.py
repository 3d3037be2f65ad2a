"""What aggregators want to know of all updates before they are folded: norms, and distances between them.

Both are sums of squares over all elements, of differences for the distances: not of products, whose difference would
lose everything where a few updates are very large and the others close together (1e12 - 1e12 instead of 1). They are
computed in float64 on tiles that follow from the number of updates alone, and added in the order of the tiles, so that
they have the same bits whatever the number of threads. No library for linear algebra has a part in it: those add in
another order on another processor, and a version must be recomputable elsewhere.
"""

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedelta.parts import Measure, Measured
from fedelta.tensors import DType
from fedelta_server.aggregate import _threads
from fedelta_server.aggregate._segments import BLOCK_ELEMENTS, Segment
from fedelta_server.aggregate._sources import Sources
from fedelta_server.aggregate._values import as_bytes

Matrix = NDArray[np.float64]

_READ_BYTES = 8 << 20
"""What a thread reads of all updates at a time."""
_CACHE_BYTES = 512 << 10
"""What it computes with at a time: it stays in the processor's cache."""


@dataclass(frozen=True)
class _Sums:
    """Sums of squares: of each update, and of the differences between each and those after it."""

    norms: Matrix
    distances: Matrix

    @classmethod
    def zeros(cls, updates: int, wanted: Collection[Measure]) -> "_Sums":
        pairs = updates if Measure.DISTANCES in wanted else 0
        return cls(np.zeros(updates if Measure.NORMS in wanted else 0), np.zeros((pairs, pairs)))

    def add(self, other: "_Sums") -> None:
        np.add(self.norms, other.norms, out=self.norms)
        np.add(self.distances, other.distances, out=self.distances)

    def clear(self) -> None:
        self.norms.fill(0.0)
        self.distances.fill(0.0)


def measure(
    sources: Sources, parts: Sequence[Segment], discounts: Sequence[float], wanted: Collection[Measure]
) -> Measured:
    """Measures all updates in one pass. `parts` are where their values lie, each update's scaled by its discount.

    Reads nothing where nothing is wanted. Memory is bounded, but for the distances themselves.
    """
    if not wanted:
        return Measured()
    total = _Sums.zeros(len(discounts), wanted)
    for part in parts:
        workers = [_Tiles(sources, part, discounts, wanted) for _ in range(_threads.THREADS)]
        sums = _threads.in_order([each.measure for each in workers], part.blocks(workers[0].length))
        with closing(sums):
            for each in sums:
                total.add(each)
    distances = total.distances + total.distances.T
    return Measured(
        norms=np.sqrt(total.norms) if Measure.NORMS in wanted else None,
        distances=distances if Measure.DISTANCES in wanted else None,
    )


@dataclass
class _Tiles:
    """Measures tiles of one segment, in reused memory."""

    sources: Sources
    part: Segment
    discounts: Sequence[float]
    wanted: Collection[Measure]
    length: int = field(init=False)
    """Elements read at a time."""

    def __post_init__(self) -> None:
        updates, dtype = len(self.discounts), self.part.dtype
        # As for float64, so that what is added up together does not depend on the type.
        self.length = _elements(_READ_BYTES, updates, BLOCK_ELEMENTS)
        self._width = _elements(_CACHE_BYTES, updates, self.length)
        self._scale = np.array(self.discounts)[:, np.newaxis]
        self._discounted = any(each != 1.0 for each in self.discounts)
        self._read = np.empty((updates, min(self.length, self.part.count)), dtype.storage)
        self._wide = np.empty(updates * self._width)
        self._squares = np.empty(updates * self._width)
        self._sums = _Sums.zeros(updates, self.wanted)

    def measure(self, first: int, count: int) -> _Sums:
        """The sums of `count` elements from `first` on; valid until the next call."""
        self._sums.clear()
        at = self.part.start + first * self.part.dtype.width
        for index, row in enumerate(self._read):
            self.sources.read(index, as_bytes(row[:count]), at)
        for start in range(0, count, self._width):
            self._add(self._read[:, start : min(start + self._width, count)])
        return self._sums

    def _add(self, values: NDArray[np.floating]) -> None:
        wide = self._wide[: values.size].reshape(values.shape)
        np.copyto(wide, values)
        if self._discounted:
            np.multiply(wide, self._scale, out=wide)
        squares = self._squares[: values.size].reshape(values.shape)
        if self._sums.norms.size:
            np.multiply(wide, wide, out=squares)
            np.add(self._sums.norms, np.add.reduce(squares, axis=1), out=self._sums.norms)
        for index in range(len(self._sums.distances) - 1):
            apart = np.subtract(wide[index + 1 :], wide[index], out=squares[index + 1 :])
            np.multiply(apart, apart, out=apart)
            self._sums.distances[index, index + 1 :] += np.add.reduce(apart, axis=1)


def _elements(budget: int, updates: int, most: int) -> int:
    """So many elements of all updates fit into a budget as float64."""
    return max(1, min(most, budget // (DType.F64.width * updates)))
