"""Blocks of a new version: of the model, and of the state that belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedelta.errors import NotFiniteError
from fedelta.parts import Rule, ServerOptimizer, Step
from fedelta.tensors import DType, Layout
from fedelta_server.aggregate._combine import Read, WeightedSum, block_length, combiner
from fedelta_server.aggregate._files import Reader, Writer
from fedelta_server.aggregate._scan import describe
from fedelta_server.aggregate._segments import Segment
from fedelta_server.aggregate._sources import Sources
from fedelta_server.aggregate._state import OpenState
from fedelta_server.aggregate._values import Block, Stored, as_bytes, first_not_finite, is_narrow, narrow, widen

_REMEDY = "The clients' updates are too large: lower the learning rates or clip gradients"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all threads of a fold share."""

    layout: Layout
    base: Reader
    out: Writer
    state: OpenState
    sources: Sources
    discounts: Sequence[float]
    """What each update's values are multiplied by when they are read."""
    rule: Rule
    optimizer: ServerOptimizer
    step: Step
    shared: int
    """How many groups of shared tensors there are: the last ones of the state and of the updates."""


class Made(NamedTuple):
    """A block that was made and written; valid until its maker makes the next."""

    data: memoryview
    """The bytes of the new model."""
    squares: NDArray[np.float64]
    """The squares of what each value was changed by, before it was rounded to float16 or bfloat16."""


@dataclass
class Maker:
    """Makes blocks of one segment, in reused memory. The segment's files beside the model are, in this order: the
    update, each group of the state, each group of shared tensors in the update.
    """

    work: Work
    segment: Segment
    most: int
    """Elements at a time, at most."""
    length: int = field(init=False)
    """Elements at a time, as memory allows."""

    def __post_init__(self) -> None:
        work, travels = self.work, self.segment.dtype.update
        self.length = min(self.segment.count, block_length(work.rule, travels, self.most))
        self._combiner = combiner(work.rule, work.discounts, travels, self.length)
        self._model, self._before = (np.empty(self.length, travels.storage) for _ in range(2))
        self._stored = np.empty(self.length, self.segment.dtype.storage) if self._narrow else self._model
        self._squares = np.empty(self.length, np.float64)
        self._state = [np.empty(self.length, travels.storage) for _ in work.state.groups]
        # clients / population times their plain mean.
        share = [1.0 / work.step.population] * len(work.discounts)
        self._changes = WeightedSum(share, travels, self.length) if work.shared else None

    @property
    def _narrow(self) -> bool:
        return is_narrow(self.segment.dtype)

    def make(self, first: int, count: int) -> Made:
        """Writes the new model and state from element `first` of the segment on."""
        at = self.segment.start + first * self.segment.dtype.width
        model, before, squares = self._model[:count], self._before[:count], self._squares[:count]
        self._load(model, at)
        np.copyto(before, model)
        # Overflow is not a warning here but an error, found below.
        with np.errstate(over="ignore", invalid="ignore"):
            self._step(model, first)
            self._check(model, self.segment.dtype.update, first)
            # Differences in float32 are exact to seven digits; only their squares need more.
            np.copyto(squares, np.subtract(model, before, out=before))
            np.multiply(squares, squares, out=squares)
        return Made(self._store(model, first, at), squares)

    def _step(self, model: Block, first: int) -> None:
        """The aggregated update changes the model and the state."""
        work, count = self.work, len(model)
        update, *places = (place + first * model.itemsize for place in self.segment.beside)
        state = [each[:count] for each in self._state]
        for values, place, initial in zip(state, places, work.state.groups.values(), strict=False):
            work.state.read(place, initial, values)
        delta = self._combiner.combine(self._from_updates(update), count)
        work.optimizer.apply(model, delta, dict(zip(work.optimizer.state, state, strict=False)), work.step)
        if self._changes is not None:
            for values, place in zip(state[-work.shared :], places[len(state) :], strict=True):
                np.add(values, self._changes.combine(self._from_updates(place), count), out=values)
        for values, place in zip(state, places, strict=False):
            self._check(values, self.segment.dtype.update, first)
            work.state.write(values, place)

    def _from_updates(self, place: int) -> Read:
        """Reads from byte `place` of each update."""
        return lambda index, into: self.work.sources.read(index, as_bytes(into), place)

    def _load(self, model: Block, at: int) -> None:
        stored = self._stored[: len(model)]
        self.work.base.read(as_bytes(stored), at)
        if self._narrow:
            widen(stored, self.segment.dtype, model)

    def _store(self, model: Block, first: int, at: int) -> memoryview:
        stored = self._stored[: len(model)]
        if self._narrow:
            with np.errstate(over="ignore"):
                narrow(model, self.segment.dtype, stored)
            self._check(stored, self.segment.dtype, first)
        data = as_bytes(stored)
        self.work.out.write(data, at)
        return data

    def _check(self, values: Stored, dtype: DType, first: int) -> None:
        bad = first_not_finite(values, dtype)
        if bad is not None:
            at = self.segment.start + (first + bad) * self.segment.dtype.width
            where = describe(self.work.layout.schema, self.work.layout.offsets, at)
            label = self.segment.dtype.label
            raise NotFiniteError(f"{where} would leave the range of {label} in the new model. {_REMEDY}")
