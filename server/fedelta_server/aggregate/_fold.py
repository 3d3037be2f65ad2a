"""From a model and updates to the next model: from files to a file, block by block."""

import itertools
import os
from collections import deque
from collections.abc import Generator, Sequence
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
from fedelta_server.store.io import opened, read_exactly, storage_errors, write_fully

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
            sink = _Sink(out, out_fd)
            _fold(_Reader(base, fd), layout, ordered, _Parts(aggregator, optimizer, block), sink)
            return Folded(sink.digest, sink.length)
    except BaseException:
        out.unlink(missing_ok=True)
        raise


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
        with storage_errors(self.path):
            read_exactly(self.fd, into, offset)


class _Sink:
    """A file that is written from start to end, and hashed while what is written is in the cache."""

    def __init__(self, path: Path, fd: int) -> None:
        self.length = 0
        self._path = path
        self._fd = fd
        self._hasher = blake3()

    @property
    def digest(self) -> bytes:
        return self._hasher.digest()

    def write(self, data: memoryview) -> None:
        with storage_errors(self._path):
            write_fully(self._fd, data, self.length)
        self._hasher.update(data)
        self.length += len(data)


def _fold(base: _Reader, layout: Layout, updates: Sequence[WeightedUpdate], parts: _Parts, sink: _Sink) -> None:
    schema = update_schema(layout.schema)
    update_start = len(schema.header(UPDATE_METADATA))
    weights = [update.weight for update in updates]
    sink.write(memoryview(layout.schema.header(MODEL_METADATA)))
    with Sources([update.path for update in updates], update_start + schema.data_bytes) as sources:
        for segment in segments(layout.schema, layout.offsets, starts(schema, update_start)):
            if segment.update_start is None:
                _copy(base, segment, parts.block, sink)
                continue
            workers = [_Averaging(base, layout, segment, sources, weights, parts) for _ in range(THREADS)]
            with closing(_in_order(workers, segment)) as blocks:
                for data in blocks:
                    sink.write(data)


def _in_order(workers: Sequence["_Averaging"], segment: Segment) -> Generator[memoryview, None, None]:
    """Blocks of the new model from first to last, made by one thread for each worker."""
    pending: deque[Future[memoryview]] = deque()
    with ThreadPoolExecutor(len(workers), thread_name_prefix="fold") as pool:
        turns = itertools.cycle(workers)
        for first, count in segment.blocks(workers[0].length):
            # A worker's memory is free again only when its last block was written.
            if len(pending) == len(workers):
                yield pending.popleft().result()
            pending.append(pool.submit(next(turns).next_model, first, count))
        while pending:
            yield pending.popleft().result()


def _copy(base: _Reader, segment: Segment, length: int, sink: _Sink) -> None:
    buffer = np.empty(min(length, segment.count), segment.dtype.storage)
    for first, count in segment.blocks(length):
        data = _bytes(buffer[:count])
        base.read(data, segment.start + first * segment.dtype.width)
        sink.write(data)


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
    ) -> None:
        travels = segment.dtype.update
        self.length = min(segment.count, parts.block_length(len(weights), travels))
        self._base = base
        self._layout = layout
        self._segment = segment
        self._sources = sources
        self._clients = len(weights)
        self._optimizer = parts.optimizer
        self._accumulator = parts.aggregator.accumulator(weights, travels, self.length)
        self._delta = np.empty(self.length, travels.storage)
        self._model = np.empty(self.length, travels.storage)
        narrow = is_narrow(segment.dtype)
        self._stored = np.empty(self.length, segment.dtype.storage) if narrow else self._model

    def next_model(self, first: int, count: int) -> memoryview:
        """The bytes of the new model from element `first` of the segment; valid until the next call."""
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
