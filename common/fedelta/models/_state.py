"""A model's tensors and files, block by block: the one loop for all kinds of models."""

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from fedelta.errors import LearnerError
from fedelta.models._cells import Array, Cell, Source, fit, own_schema
from fedelta.models._files import HashedFile, Window, Written, as_bytes, fill, opened, overwritten
from fedelta.models._given import NOTHING_GIVEN, Given, check_given, fill_given
from fedelta.tensors import (
    MODEL_METADATA,
    UPDATE_METADATA,
    DType,
    Layout,
    Schema,
    TensorSpec,
    read_layout,
    update_schema,
)

BLOCK = 1 << 18
"""Elements handled at a time: large enough to hide Python, small enough for the processor's cache."""


class ModelState(Protocol):
    """The tensors of a learner's model."""

    @property
    def schema(self) -> Schema:
        """Of the model file: as last loaded, before that the model's own."""

    def load(self, path: Path) -> None:
        """Reads a model file into the model's tensors.

        Raises `ModelMismatchError` naming the first tensor that does not fit, `PayloadError` on a malformed file.
        """

    def write_model(self, path: Path) -> Written:
        """Writes the tensors as a canonical model file, over what is there."""

    def write_delta(
        self, base: Path, path: Path, *, given: Given = NOTHING_GIVEN, shared: Sequence[str] = ()
    ) -> Written:
        """Writes an update file: the tensors minus those of the model file `base`.

        In float64 for float64 tensors, else in float32. `shared`: names of what the plan shares beside the model, whose
        changes are part of the update. They are in `given`, as are differences that are to be taken from there.

        Raises `LearnerError` naming a tensor that is not finite, or one in `given` that is unlike the model's,
        `ModelMismatchError` where training changed the type or shape of a tensor.
        """


class Piece(NamedTuple):
    """A part of a tensor: elements from `start` to `stop`."""

    spec: TensorSpec
    start: int
    stop: int


def blocks(specs: Iterable[TensorSpec]) -> Iterator[list[Piece]]:
    """Cuts tensors into blocks of at most `BLOCK` elements of one type; small tensors share a block."""
    for _, group in groupby(specs, key=attrgetter("dtype")):
        block: list[Piece] = []
        room = BLOCK
        for spec in group:
            start = 0
            while start < spec.count:
                stop = min(spec.count, start + room)
                block.append(Piece(spec, start, stop))
                room -= stop - start
                start = stop
                if room == 0:
                    yield block
                    block, room = [], BLOCK
        if block:
            yield block


class BlockState:
    """The `ModelState` of any `Source`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.schema = own_schema(source.cells(writable=False))

    def load(self, path: Path) -> None:
        """See `ModelState`."""
        with opened(path) as fd:
            layout = read_layout(fd)
            cells = self._source.cells(writable=True)
            fit(layout.schema, cells)
            at = layout.data_start
            for block in blocks(sorted(layout.schema.tensors, key=lambda spec: layout.offsets[spec.name])):
                room = [cells[spec.name].room(start, stop) for spec, start, stop in block]
                fill(fd, [as_bytes(values) for values in room], at)
                at += sum(values.nbytes for values in room)
                for (spec, start, _), values in zip(block, room, strict=True):
                    cells[spec.name].put(start, values)
        self.schema = layout.schema

    def write_model(self, path: Path) -> Written:
        """See `ModelState`."""
        return _write(self.schema, self._fitting(self.schema), path, MODEL_METADATA)

    def write_delta(
        self, base: Path, path: Path, *, given: Given = NOTHING_GIVEN, shared: Sequence[str] = ()
    ) -> Written:
        """See `ModelState`."""
        with opened(base) as source, overwritten(path) as target:
            layout = read_layout(source)
            update = update_schema(layout.schema, shared)
            check_given(given, update)
            subtract = _Subtraction(self._fitting(layout.schema), source, layout, given)
            out = _begin(target, update.header(UPDATE_METADATA))
            for block in blocks(update.tensors):
                out.write([as_bytes(subtract(block))])
            return out.finish(subtract.norm)

    def _fitting(self, schema: Schema) -> Mapping[str, Cell]:
        cells = self._source.cells(writable=False)
        fit(schema, cells)
        return cells


def write_tensors(source: Source, path: Path, metadata: Mapping[str, str]) -> Written:
    """Writes all tensors of a source as a canonical file, over what is there."""
    cells = source.cells(writable=False)
    return _write(own_schema(cells), cells, path, metadata)


def _write(schema: Schema, cells: Mapping[str, Cell], path: Path, metadata: Mapping[str, str]) -> Written:
    with overwritten(path) as fd:
        out = _begin(fd, schema.header(metadata))
        for block in blocks(schema.tensors):
            out.write([as_bytes(cells[spec.name].read(start, stop)) for spec, start, stop in block])
        return out.finish()


def _begin(fd: int, header: bytes) -> HashedFile:
    out = HashedFile(fd)
    out.write([memoryview(header)])
    return out


class _Subtraction:
    """Tensors minus those of a file, a block at a time, in buffers that are used again."""

    def __init__(self, cells: Mapping[str, Cell], fd: int, layout: Layout, given: Given) -> None:
        self._cells = cells
        self._fd = fd
        self._layout = layout
        self._given = given
        # Tensors of one type follow each other in the file in the order of the update: one window for each type.
        self._windows: dict[DType, Window] = {}
        self._out: dict[DType, Array] = {}
        self._scratch = (np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32))
        self._wide = np.empty(BLOCK, np.float64)
        self._squares = 0.0

    def __call__(self, block: list[Piece]) -> Array:
        """The differences of a block; valid until the next call. Raises `LearnerError` if one is not finite."""
        out = self._buffer(block[0].spec.dtype)
        at = 0
        with np.errstate(all="ignore"):
            for piece in block:
                size = piece.stop - piece.start
                self._subtract(piece, out[at : at + size])
                at += size
            self._add_up(out[:at], block)
        return out[:at]

    @property
    def norm(self) -> float:
        """The Euclidean norm of all differences so far; where that has no number, the greatest that has one."""
        return math.sqrt(min(self._squares, sys.float_info.max))

    def _add_up(self, out: Array, block: list[Piece]) -> None:
        """One pass for two ends: a sum of squares that is finite shows that all values are."""
        wide = out
        if out.dtype != np.float64:
            wide = self._wide[: len(out)]
            np.copyto(wide, out)
        squares = float(wide.dot(wide))
        # Squares of large float64 values overflow where the values do not.
        if not math.isfinite(squares) and not np.isfinite(out).all():
            raise LearnerError(_explain(block, np.isfinite(out)))
        self._squares += squares

    def _subtract(self, piece: Piece, out: Array) -> None:
        if piece.spec.name in self._given:
            fill_given(self._given[piece.spec.name], piece.start, piece.stop, out)
            return
        spec = self._layout.schema.by_name[piece.spec.name]
        new = self._cells[spec.name].read(piece.start, piece.stop)
        at = self._layout.offsets[spec.name] + piece.start * spec.dtype.width
        base = self._window(spec.dtype).take(at, new.nbytes).view(spec.dtype.storage)
        first, second = self._scratch
        np.subtract(_widened(new, spec.dtype, first), _widened(base, spec.dtype, second), out=out)

    def _window(self, dtype: DType) -> Window:
        if dtype not in self._windows:
            self._windows[dtype] = Window(self._fd, BLOCK * dtype.width)
        return self._windows[dtype]

    def _buffer(self, dtype: DType) -> Array:
        if dtype not in self._out:
            self._out[dtype] = np.empty(BLOCK, dtype.storage)
        return self._out[dtype]


def _widened(values: Array, dtype: DType, scratch: Array) -> Array:
    """Values of 16 bits as float32, put into `scratch`; others as they are."""
    wide = scratch[: len(values)]
    if dtype is DType.BF16:
        # A bfloat16 is the upper half of a float32.
        np.left_shift(values, np.uint32(16), out=wide.view(np.uint32))
    elif dtype is DType.F16:
        np.copyto(wide, values)
    else:
        return values
    return wide


def _explain(block: list[Piece], finite: Array) -> str:
    at = 0
    for piece in block:
        size = piece.stop - piece.start
        if not finite[at : at + size].all():
            break
        at += size
    return (
        f"tensor {piece.spec.name!r} holds NaN or infinity after training; "
        "a smaller learning rate or clipped gradients may help"
    )
