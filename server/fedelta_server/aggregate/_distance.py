"""How far two models are from each other."""

import math
from pathlib import Path

import numpy as np

from fedelta.errors import SchemaMismatchError
from fedelta.tensors import DType, read_layout
from fedelta_server.aggregate._segments import BLOCK_ELEMENTS, Segment, segments
from fedelta_server.aggregate._values import Block, is_narrow, widen
from fedelta_server.store.io import opened, read_exactly, storage_errors


def distance(one: Path, other: Path) -> float:
    """The Euclidean norm of the difference over all tensors of floating point numbers.

    Both must be model files with the same tensors; else `SchemaMismatchError`. Memory does not depend on their size.
    """
    with opened(one) as first, opened(other) as second, storage_errors(one):
        layout, same = read_layout(first), read_layout(second)
        if (layout.schema, layout.offsets) != (same.schema, same.offsets):
            raise SchemaMismatchError(f"{one} and {other} do not have the same tensors")
        parts = [part for part in segments(layout.schema, layout.offsets) if part.dtype.is_float]
        return math.sqrt(sum(_squares(first, second, part) for part in parts))


def _squares(first: int, second: int, part: Segment) -> float:
    total = 0.0
    for at, count in part.blocks(BLOCK_ELEMENTS):
        start = part.start + at * part.dtype.width
        difference = _read(first, part.dtype, start, count) - _read(second, part.dtype, start, count)
        total += float(np.dot(difference, difference))
    return total


def _read(fd: int, dtype: DType, start: int, count: int) -> Block:
    stored = np.empty(count, dtype.storage)
    read_exactly(fd, stored.view(np.uint8).data, start)
    if not is_narrow(dtype):
        return stored.astype(np.float64)
    wide = np.empty(count, np.float32)
    widen(stored, dtype, wide)
    return wide.astype(np.float64)
