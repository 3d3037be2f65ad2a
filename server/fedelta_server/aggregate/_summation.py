"""Sums of long streams of numbers that do not depend on where the stream is cut into blocks."""

import numpy as np
from numpy.typing import NDArray

_TILE = 4096


class TiledSum:
    """A sum of float64 values: tiles of fixed length are summed up pairwise, and their sums one after the other.

    No library for linear algebra has a part in it, since those add in another order on another processor.
    """

    def __init__(self) -> None:
        self._whole = 0.0
        self._rest = np.empty(_TILE, np.float64)
        self._held = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Takes the next values of the stream."""
        first = min(len(values), -self._held % _TILE)
        self._hold(values[:first])
        last = first + (len(values) - first) // _TILE * _TILE
        for each in np.add.reduce(values[first:last].reshape(-1, _TILE), axis=1).tolist():
            self._whole += each
        self._hold(values[last:])

    @property
    def total(self) -> float:
        """The sum so far."""
        return self._whole + float(np.add.reduce(self._rest[: self._held]))

    def _hold(self, values: NDArray[np.float64]) -> None:
        """Keeps values that fit into the tile that is begun; sums that up when it is full."""
        self._rest[self._held : self._held + len(values)] = values
        self._held += len(values)
        if self._held == _TILE:
            self._whole = self.total
            self._held = 0
