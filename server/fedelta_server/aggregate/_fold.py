"""From a model and updates to the next model: from files to a file, block by block."""

import itertools
import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blake3 import blake3

from fedelta.errors import NotFiniteError, PayloadError
from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, DType, Layout, read_layout, update_schema
from fedelta_server.aggregate._scan import describe
from fedelta_server.aggregate._segments import BLOCK_ELEMENTS, Segment, segments, starts
from fedelta_server.aggregate._sources import Sources
from fedelta_server.aggregate._values import Block, Stored, first_not_finite, is_narrow, narrow, widen
from fedelta_server.aggregate.parts import Aggregator, Needs, ServerOptimizer
from fedelta_server.store.io import EarlySync, opened, read_exactly, storage_errors, write_fully

THREADS = 2
"""Threads that read and add; what they do to a block does not depend on how many they are."""

EACH_BYTES = 64 << 20
"""What an aggregator that needs EACH update may hold: block length times clients, in all threads, stays under it."""


@dataclass(frozen=True)
class WeightedUpdate:
    """One admitted update."""

    client: str
    path: Path
    weight: float
    """Positive; for FedAvg the number of examples."""


_LAG_BYTES = 8 << 20
"""So far behind the block being read another thread may still be reading."""


@dataclass(frozen=True)
class Folded:
    """The new model: BLAKE3-256 of its file, and its length in bytes."""

    digest: bytes
    length: int


def fold(
    base: Path,
    updates: Sequence[WeightedUpdate],
    out: Path,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    *,
    block: int = BLOCK_ELEMENTS,
) -> Folded:
    """Writes the next model version to `out` and returns its digest and length. Not durable yet.

    Updates are taken in the order of client names, whatever order they come in, and the result has the same bits
    for every `block` (elements processed at a time). Memory does not depend on the size of the model, nor on the
    number of updates; at least one is needed. Tensors that do not travel in updates are copied.

    Raises `NotFiniteError`, naming the tensor, where the new model would hold NaN or infinity, and `StorageError`
    where a file cannot be read or written; then there is no `out`.
    """
    ordered = sorted(updates, key=lambda update: update.client)
    if not ordered:
        raise ValueError("a fold needs at least one update")
    try:
        with opened(base) as fd, opened(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as out_fd:
            with storage_errors(base):
                layout = _model_layout(fd)
            parts = _Parts(aggregator, optimizer, block)
            blocks = _fold(_Reader(base, fd), layout, ordered, parts, _Writer(out, out_fd))
            with closing(blocks), EarlySync(out_fd) as early:
                return _hashed(blocks, early)
    except BaseException:
        out.unlink(missing_ok=True)
        raise


def _hashed(blocks: Iterable[memoryview], early: EarlySync) -> Folded:
    hasher, length = blake3(), 0
    for block in blocks:
        hasher.update(block)
        length += len(block)
        early.wrote(length)
    return Folded(hasher.digest(), length)


def _model_layout(fd: int) -> Layout:
    layout = read_layout(fd)
    if not layout.canonical or layout.metadata != MODEL_METADATA:
        raise PayloadError("the model to fold into is not a canonical model file")
    return layout


@dataclass(frozen=True)
class _Parts:
    aggregator: Aggregator
    optimizer: ServerOptimizer
    block: int

    def block_length(self, clients: int, dtype: DType) -> int:
        """Elements at a time, in the type in which updates travel."""
        if self.aggregator.needs is Needs.SUM:
            return self.block
        return max(1, min(self.block, EACH_BYTES // (THREADS * clients * dtype.width)))


@dataclass(frozen=True)
class _Reader:
    path: Path
    fd: int

    def read(self, into: memoryview, offset: int) -> None:
        """Reads for the last time: the base is history when the fold is done.

        Its cached pages are let go at once and take the block of the new version that is written next. Where a virtual
        machine must get fresh memory from its host instead, writing takes ten times as long.
        """
        with storage_errors(self.path):
            read_exactly(self.fd, into, offset)
            if offset > _LAG_BYTES:
                # From the start each time: what lay across an earlier boundary is let go now.
                os.posix_fadvise(self.fd, 0, offset - _LAG_BYTES, os.POSIX_FADV_DONTNEED)


@dataclass(frozen=True)
class _Writer:
    path: Path
    fd: int

    def write(self, data: memoryview, offset: int) -> None:
        with storage_errors(self.path):
            write_fully(self.fd, data, offset)


def _fold(
    base: _Reader, layout: Layout, updates: Sequence[WeightedUpdate], parts: _Parts, out: _Writer
) -> Generator[memoryview, None, None]:
    """Writes the new model, which has the layout of the old one, and yields its bytes from first to last."""
    schema = update_schema(layout.schema)
    update_start = len(schema.header(UPDATE_METADATA))
    weights = [update.weight for update in updates]
    header = memoryview(layout.schema.header(MODEL_METADATA))
    out.write(header, 0)
    yield header
    with Sources([update.path for update in updates], update_start + schema.data_bytes) as sources:
        for segment in segments(layout.schema, layout.offsets, starts(schema, update_start)):
            if segment.update_start is None:
                yield from _copy(base, segment, parts.block, out)
            else:
                workers = [_Averaging(base, layout, segment, sources, weights, parts, out) for _ in range(THREADS)]
                yield from _in_order(workers, segment)


def _in_order(workers: Sequence["_Averaging"], segment: Segment) -> Generator[memoryview, None, None]:
    """Blocks of the new model from first to last, made by one thread for each worker while others are hashed."""
    pending: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(len(workers), thread_name_prefix="fold") as pool:
        turns = itertools.cycle(workers)
        for first, count in segment.blocks(workers[0].length):
            # A worker's memory is free again only when its last block was hashed.
            if len(pending) == len(workers):
                yield pending.popleft().result()
            pending.append(pool.submit(next(turns).write_block, first, count))
        while pending:
            yield pending.popleft().result()


def _copy(base: _Reader, segment: Segment, length: int, out: _Writer) -> Generator[memoryview, None, None]:
    buffer = np.empty(min(length, segment.count), segment.dtype.storage)
    for first, count in segment.blocks(length):
        data, at = _bytes(buffer[:count]), segment.start + first * segment.dtype.width
        base.read(data, at)
        out.write(data, at)
        yield data


class _Averaging:
    """Makes blocks of the new model for one segment, in reused memory."""

    def __init__(
        self,
        base: _Reader,
        layout: Layout,
        segment: Segment,
        sources: Sources,
        weights: Sequence[float],
        parts: _Parts,
        out: _Writer,
    ) -> None:
        travels = segment.dtype.update
        self.length = min(segment.count, parts.block_length(len(weights), travels))
        self._base = base
        self._layout = layout
        self._segment = segment
        self._sources = sources
        self._out = out
        self._clients = len(weights)
        self._optimizer = parts.optimizer
        self._accumulator = parts.aggregator.accumulator(weights, travels, self.length)
        self._delta = np.empty(self.length, travels.storage)
        self._model = np.empty(self.length, travels.storage)
        narrow = is_narrow(segment.dtype)
        self._stored = np.empty(self.length, segment.dtype.storage) if narrow else self._model

    def write_block(self, first: int, count: int) -> memoryview:
        """Writes the new model from element `first` of the segment; returns its bytes, valid until the next call."""
        dtype, model, stored = self._segment.dtype, self._model[:count], self._stored[:count]
        at = self._segment.start + first * dtype.width
        self._base.read(_bytes(stored), at)
        if is_narrow(dtype):
            widen(stored, dtype, model)
        # Overflow is not a warning here but an error, found below.
        with np.errstate(over="ignore", invalid="ignore"):
            self._optimizer.apply(model, self._aggregate(first, count))
            self._check(model, self._segment.dtype.update, first)
            if is_narrow(dtype):
                narrow(model, dtype, stored)
                self._check(stored, dtype, first)
        self._out.write(_bytes(stored), at)
        return _bytes(stored)

    def _aggregate(self, first: int, count: int) -> Block:
        start = self._segment.update_start or 0
        delta = self._delta[:count]
        self._accumulator.begin(count)
        for index in range(self._clients):
            self._sources.read(index, _bytes(delta), start + first * delta.itemsize)
            self._accumulator.add(index, delta)
        return self._accumulator.result()

    def _check(self, values: Stored, dtype: DType, first: int) -> None:
        bad = first_not_finite(values, dtype)
        if bad is not None:
            at = self._segment.start + (first + bad) * self._segment.dtype.width
            where = describe(self._layout.schema, self._layout.offsets, at)
            raise NotFiniteError(
                f"{where} would leave the range of {self._segment.dtype.label} in the new model. "
                "The clients' updates are too large: lower the learning rates or clip gradients"
            )


def _bytes(values: Stored) -> memoryview:
    return values.view(np.uint8).data
