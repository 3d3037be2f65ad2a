"""Rules of aggregators, applied to blocks in reused memory."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from fedelta.parts import Coordinatewise, Rule, Weighted
from fedelta.tensors import DType
from fedelta_server.aggregate._threads import THREADS
from fedelta_server.aggregate._values import Block

EACH_BYTES = 64 << 20
"""What folds may hold of all updates at once, in all threads, whatever their number."""

_TEMPORARIES = 3
"""A function of all updates' values may make so many arrays of their size."""

Read = Callable[[int, Block], None]
"""Fills a block with the values of the update of this index."""


class Combiner(Protocol):
    """Makes one block of the blocks of all updates. Belongs to one thread."""

    def combine(self, read: Read, count: int) -> Block:
        """The next block, of `count` elements. It may be overwritten, and is valid until the next call."""
        ...


def block_length(rule: Rule, dtype: DType, most: int) -> int:
    """Elements at a time, in the type in which updates travel, so that memory stays bounded."""
    if isinstance(rule, Weighted):
        return most
    bound = EACH_BYTES // (1 + _TEMPORARIES) // THREADS
    return max(1, min(most, bound // (len(rule.chosen) * dtype.width)))


def combiner(rule: Rule, discounts: Sequence[float], dtype: DType, length: int) -> Combiner:
    """What applies a rule to blocks of up to `length` values, each update's scaled by its discount."""
    if isinstance(rule, Weighted):
        factors = [factor * discount for factor, discount in zip(rule.factors, discounts, strict=True)]
        return WeightedSum(factors, dtype, length)
    return _Columns(rule, discounts, dtype, length)


class WeightedSum:
    """The sum of factor times update, in float64 also for float32 updates.

    So equal updates average to exactly themselves, the error does not grow with the number of clients, and reading the
    files costs more than the arithmetic.
    """

    def __init__(self, factors: Sequence[float], dtype: DType, length: int) -> None:
        self._terms = [(index, factor) for index, factor in enumerate(factors) if factor]
        self._delta = np.empty(length, dtype.storage)
        self._sum = np.empty(length, np.float64)
        self._term = np.empty(length, np.float64)

    def combine(self, read: Read, count: int) -> Block:
        """See `Combiner`. Updates with the factor 0 are not read."""
        delta, total = self._delta[:count], self._sum[:count]
        if not self._terms:
            total.fill(0.0)
        for number, (index, factor) in enumerate(self._terms):
            read(index, delta)
            term = self._term[:count] if number else total
            np.copyto(term, delta)
            np.multiply(term, factor, out=term)
            if number:
                np.add(total, term, out=total)
        np.copyto(delta, total, casting="same_kind")
        return delta


class _Columns:
    """A function of each coordinate's values."""

    def __init__(self, rule: Coordinatewise, discounts: Sequence[float], dtype: DType, length: int) -> None:
        self._rule = rule
        self._discounts = [discounts[index] for index in rule.chosen]
        self._values = np.empty(len(rule.chosen) * length, dtype.storage)
        self._result = np.empty(length, dtype.storage)

    def combine(self, read: Read, count: int) -> Block:
        """See `Combiner`."""
        rows = len(self._rule.chosen)
        values = self._values[: rows * count].reshape(rows, count)
        for row, index, discount in zip(values, self._rule.chosen, self._discounts, strict=True):
            read(index, row)
            if discount != 1.0:
                np.multiply(row, discount, out=row)
        found = self._rule.function(values)
        if found.shape != (count,):
            raise ValueError(f"the aggregator's function made shape {found.shape} of {rows} x {count} values")
        result = self._result[:count]
        np.copyto(result, found, casting="same_kind")
        return result
