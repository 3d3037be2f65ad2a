"""One pass over a tensor file: digest, norm, and the first value that must not be there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from blake3 import blake3

from fedelta.errors import NotFiniteError, PayloadError
from fedelta.tensors import DType, Schema
from fedelta_server.aggregate._segments import BLOCK_ELEMENTS, Segment, locate
from fedelta_server.aggregate._values import Block, Stored, is_narrow, squares, widen
from fedelta_server.store.io import read_exactly

MAX_MAGNITUDE = {DType.F32: 1e18, DType.F64: 1e140}
"""Values beyond this are refused, by the type in which they travel: their squares, and in float64 also sums of many
squares, leave its range. No model that trains holds them; the sums of squares of statistics may well pass 1e18."""

_BUFFER_BYTES = 1 << 20
ADVICE = "Training has probably diverged: lower the learning rate or clip gradients"


@dataclass(frozen=True)
class _Fault:
    value: float
    most: float
    """What is allowed there."""
    at: int
    """In bytes from the start of the file."""


class Scanner:
    """Reads files in blocks into one reused buffer. Everything it is shown, in file order, makes the digest."""

    def __init__(self) -> None:
        self.sum_of_squares = 0.0
        self._hasher = blake3()
        self._buffer = np.empty(_BUFFER_BYTES, np.uint8)
        self._wide = np.empty(BLOCK_ELEMENTS, np.float32)
        self._fault: _Fault | None = None

    @property
    def digest(self) -> bytes:
        """BLAKE3-256 of what was scanned so far."""
        return self._hasher.digest()

    def opaque(self, fd: int, start: int, nbytes: int) -> None:
        """Scans bytes that are no numbers."""
        for at in range(start, start + nbytes, _BUFFER_BYTES):
            self._read(fd, at, min(_BUFFER_BYTES, start + nbytes - at))

    def data(self, fd: int, parts: Iterable[Segment]) -> None:
        """Scans tensors; the first value that is NaN, infinite or too large is remembered for `check_finite`."""
        for part in parts:
            if part.dtype.is_float:
                self._floats(fd, part)
            else:
                self.opaque(fd, part.start, part.count * part.dtype.width)

    def check_finite(self, schema: Schema, at: Mapping[str, int]) -> None:
        """Raises `NotFiniteError` or `PayloadError`, naming the tensor, where a value was found that may not be.

        `at` says where the tensors begin in the file.
        """
        if self._fault is None:
            return
        where = describe(schema, at, self._fault.at)
        if not np.isfinite(self._fault.value):
            raise NotFiniteError(f"{where} is {_name(self._fault.value)}. {ADVICE}")
        raise PayloadError(
            f"{where} is {self._fault.value:.3g}; magnitudes above {self._fault.most:g} are refused. {ADVICE}"
        )

    def _read(self, fd: int, start: int, nbytes: int) -> Stored:
        raw = self._buffer[:nbytes]
        view = raw.data
        read_exactly(fd, view, start)
        self._hasher.update(view)
        return raw

    def _floats(self, fd: int, part: Segment) -> None:
        width, most = part.dtype.width, MAX_MAGNITUDE[part.dtype.update]
        for first, count in part.blocks(min(BLOCK_ELEMENTS, _BUFFER_BYTES // width)):
            at = part.start + first * width
            raw = self._read(fd, at, count * width)
            block = self._numbers(raw.view(part.dtype.storage), part.dtype)
            found = squares(block)
            self.sum_of_squares += found
            # Any NaN makes the comparison false; a sum below the bound's square has no value above the bound.
            if not found <= most**2 and self._fault is None:
                self._fault = _first_fault(block, most, at, width)

    def _numbers(self, stored: Stored, dtype: DType) -> Block:
        if not is_narrow(dtype):
            return stored
        block = self._wide[: len(stored)]
        widen(stored, dtype, block)
        return block


def _first_fault(block: Block, most: float, at: int, width: int) -> _Fault | None:
    bad = ~(np.abs(block) <= most)
    if not bad.any():
        return None
    first = int(bad.argmax())
    return _Fault(float(block[first]), most, at + first * width)


def describe(schema: Schema, at: Mapping[str, int], byte: int) -> str:
    """Names a value by the byte of the file at which it lies."""
    spec, index = locate(schema, at, byte)
    return f"tensor {spec.name!r}: its value" + (f" at index {list(index)}" if index else "")


def _name(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinity" if value > 0 else "-infinity"
