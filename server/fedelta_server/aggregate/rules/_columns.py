"""Order statistics of many columns at once: the same bits on every machine and for every length of block."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Row = NDArray[Any]
"""One update's values, float32 or float64."""

_NETWORK_ROWS = 64
"""With more rows numpy is the faster one."""


def sorted_rows(values: NDArray[Any]) -> list[Row]:
    """Sorts each column of shape (rows, columns), all finite; overwrites it. Row k has the k-th smallest values.

    Few rows are sorted by a network of comparisons of whole rows: numpy, which sorts column by column, takes 17 times
    as long for five of them and 5 times for ten.
    """
    # Which of -0.0 and 0.0 is the smaller depends on the processor; with -0.0 gone nothing does.
    np.add(values, 0.0, out=values)
    if len(values) > _NETWORK_ROWS:
        values.sort(axis=0)
        return list(values)
    rows, spare = list(values), np.empty_like(values[0])
    for low, high in comparators(len(rows)):
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]
    return rows


@lru_cache(maxsize=16)
def comparators(count: int) -> tuple[tuple[int, int], ...]:
    """Batcher's merge exchange for any count: which two to put in order, first to last (Knuth, TAOCP 5.2.2, M)."""
    return tuple(_comparators(count))


def _comparators(count: int) -> Iterator[tuple[int, int]]:
    top = 1 << max(count - 1, 0).bit_length() >> 1
    part = top
    while part:
        reach, offset, distance = top, 0, part
        while True:
            yield from ((i, i + distance) for i in range(count - distance) if i & part == offset)
            if reach == part:
                break
            distance, reach, offset = reach - part, reach >> 1, part
        part >>= 1


def mean(rows: Sequence[Row]) -> Row:
    """The plain mean of at least one row, added in float64 in their order."""
    total = rows[0].astype(np.float64)
    for row in rows[1:]:
        total += row
    total /= len(rows)
    return total.astype(rows[0].dtype, copy=False)


def middle(rows: Sequence[Row]) -> Row:
    """The median of sorted rows: of an even number the mean of the two in the middle."""
    half, odd = divmod(len(rows), 2)
    return rows[half] if odd else mean(rows[half - 1 : half + 1])
