"""From a model and updates to the next model: from files to files, block by block."""

import math
import os
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from blake3 import blake3

from fedelta._words import plural
from fedelta.errors import NotFiniteError, PayloadError
from fedelta.parts import Aggregator, Coordinatewise, Measured, Rule, ServerOptimizer, Step, Updates
from fedelta.tensors import (
    MODEL_METADATA,
    UPDATE_METADATA,
    Layout,
    Schema,
    grouped,
    read_layout,
    shared_group,
    update_schema,
)
from fedelta_server.aggregate import _threads
from fedelta_server.aggregate._files import Reader, Writer
from fedelta_server.aggregate._making import Maker, Work
from fedelta_server.aggregate._measure import measure
from fedelta_server.aggregate._segments import BLOCK_ELEMENTS, Segment, segments, starts
from fedelta_server.aggregate._sources import Sources
from fedelta_server.aggregate._state import Carry, OpenState, open_state, state_groups
from fedelta_server.aggregate._summation import TiledSum
from fedelta_server.aggregate._threads import in_order
from fedelta_server.aggregate._values import as_bytes
from fedelta_server.aggregate.admission import Stored, file_digest
from fedelta_server.store.io import EarlySync, opened, storage_errors


@dataclass(frozen=True)
class WeightedUpdate:
    """One admitted update."""

    client: str
    path: Path
    weight: int
    """The number of examples; positive."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What the client gave beside it: what the aggregator asks for."""
    staleness: int = 0
    """How many versions were made since the one that it started from."""
    discount: float = 1.0
    """Its values count times this, because of its staleness."""


@dataclass(frozen=True)
class Folded:
    """The new model: BLAKE3-256 of its file, and its length in bytes."""

    digest: bytes
    length: int
    state: Stored | None = None
    """The same of the file with the state of the plan's parts. None: they keep none."""
    norm: float = 0.0
    """The Euclidean norm of what the model's float tensors were changed by."""


def fold(
    base: Path,
    updates: Sequence[WeightedUpdate],
    out: Path,
    aggregator: Aggregator,
    optimizer: ServerOptimizer,
    *,
    step: Step | None = None,
    carry: Carry | None = None,
    block: int = BLOCK_ELEMENTS,
) -> Folded:
    """Writes the next model version to `out`, and what goes with it to `carry.target`. Not durable yet.

    Updates are taken in the order in which they are given, and the result has the same bits for every `block` (elements
    processed at a time). Memory does not depend on the size of the model, nor on the number of updates; at least one is
    needed, and as many as the aggregator needs. Tensors that do not travel in updates are copied. `step`: None is the
    first of a job that has no other, with all clients. `carry`: may be left out where the plan keeps no state.

    Raises `NotFiniteError`, naming the tensor, where the new model would hold NaN or infinity, and `StorageError`
    where a file cannot be read or written; then there are no new files.
    """
    least = max(1, aggregator.least)
    if len(updates) < least:
        raise ValueError(f"a fold by {aggregator} needs at least {plural(least, 'update')}")
    parts = _Parts(aggregator, optimizer, step or _only_step(len(updates)), carry)
    try:
        with ExitStack() as stack:
            folding = _Folding.opened(stack, base, updates, out, parts)
            blocks = stack.enter_context(closing(folding.blocks(block)))
            made = _hashed(blocks, stack.enter_context(EarlySync(folding.work.out.fd)))
        return Folded(*made, state=_state(carry, folding.work.state), norm=folding.norm)
    except BaseException:
        out.unlink(missing_ok=True)
        if carry is not None:
            carry.target.unlink(missing_ok=True)
        raise


def _only_step(clients: int) -> Step:
    return Step(version=1, rounds=1, clients=clients, population=clients)


def _hashed(blocks: Iterable[memoryview], early: EarlySync) -> Stored:
    hasher, length = blake3(), 0
    for block in blocks:
        hasher.update(block)
        length += len(block)
        early.wrote(length)
    return Stored(hasher.digest(), length)


def _state(carry: Carry | None, state: OpenState) -> Stored | None:
    if carry is None or not state.groups:
        return None
    return Stored(file_digest(carry.target), carry.target.stat().st_size)


@dataclass(frozen=True)
class _Parts:
    aggregator: Aggregator
    optimizer: ServerOptimizer
    step: Step
    carry: Carry | None

    @property
    def shared(self) -> tuple[str, ...]:
        return self.carry.shared if self.carry is not None else ()

    def rule(self, updates: Sequence[WeightedUpdate], measured: Measured) -> Rule:
        """The aggregator's answer, checked: it may be a third party's."""
        rule = self.aggregator.rule(_known(updates), measured)
        if isinstance(rule, Coordinatewise):
            if not rule.chosen or not all(0 <= index < len(updates) for index in rule.chosen):
                raise ValueError(f"{self.aggregator} chose {rule.chosen} of {plural(len(updates), 'update')}")
            return rule
        if len(rule.factors) != len(updates):
            raise ValueError(f"{self.aggregator} gave {len(rule.factors)} factors for {plural(len(updates), 'update')}")
        for update, factor in zip(updates, rule.factors, strict=True):
            if not math.isfinite(factor):
                raise NotFiniteError(f"{self.aggregator} gave the update of {update.client!r} the factor {factor}")
        return rule


def _known(updates: Sequence[WeightedUpdate]) -> Updates:
    return Updates(
        clients=tuple(each.client for each in updates),
        examples=tuple(each.weight for each in updates),
        staleness=tuple(each.staleness for each in updates),
        facts=tuple(each.facts for each in updates),
    )


class _UpdateFiles:
    """How the update files of a plan are laid out."""

    def __init__(self, model: Schema, shared: Sequence[str]) -> None:
        self._floats = [spec.name for spec in model.update.tensors]
        schema = update_schema(model, shared)
        start = len(schema.header(UPDATE_METADATA))
        self.length = start + schema.data_bytes
        self._at = starts(schema, start)
        self.deltas = {name: self._at[name] for name in self._floats}
        """Where the difference of each float tensor begins, in bytes."""
        self.shared = [self._group(shared_group(name)) for name in shared]
        """By group the same of shared tensors, by tensor of the model."""

    def _group(self, group: str) -> dict[str, int]:
        return {name: self._at[grouped(group, name)] for name in self._floats}


@dataclass(frozen=True)
class _Folding:
    """A fold with its files open and its rule known."""

    work: Work
    parts: Sequence[Segment]
    """Of the model file."""
    _changed: TiledSum = field(default_factory=TiledSum)

    @classmethod
    def opened(
        cls, stack: ExitStack, base: Path, updates: Sequence[WeightedUpdate], out: Path, parts: _Parts
    ) -> "_Folding":
        """Opens the files, measures the updates and asks for the rule."""
        reader = Reader(base, stack.enter_context(opened(base)))
        writer = Writer(out, stack.enter_context(opened(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)))
        with storage_errors(base):
            layout = _model_layout(reader.fd)
        files = _UpdateFiles(layout.schema, parts.shared)
        groups = state_groups(parts.optimizer, parts.shared)
        state = stack.enter_context(open_state(layout.schema, groups, parts.carry))
        sources = stack.enter_context(Sources([update.path for update in updates], files.length))
        discounts = [update.discount for update in updates]
        deltas = segments(layout.schema.update, files.deltas)
        work = Work(
            layout=layout,
            base=reader,
            out=writer,
            state=state,
            sources=sources,
            discounts=discounts,
            rule=parts.rule(updates, measure(sources, deltas, discounts, parts.aggregator.measures)),
            optimizer=parts.optimizer,
            step=parts.step,
            shared=len(parts.shared),
        )
        return cls(work, segments(layout.schema, layout.offsets, files.deltas, *state.places, *files.shared))

    @property
    def norm(self) -> float:
        """Of the change so far."""
        # One beyond what JSON can say is as good as the largest number.
        return min(math.sqrt(self._changed.total), sys.float_info.max)

    def blocks(self, most: int) -> Generator[memoryview, None, None]:
        """Writes the new model, which has the layout of the old one, and yields its bytes from first to last."""
        header = memoryview(self.work.layout.schema.header(MODEL_METADATA))
        self.work.out.write(header, 0)
        yield header
        for part in self.parts:
            yield from self._made(part, most) if part.beside else self._copied(part, most)

    def _made(self, part: Segment, most: int) -> Generator[memoryview, None, None]:
        makers = [Maker(self.work, part, most) for _ in range(_threads.THREADS)]
        with closing(in_order([each.make for each in makers], part.blocks(makers[0].length))) as made:
            for block in made:
                yield block.data
                self._changed.add(block.squares)

    def _copied(self, part: Segment, most: int) -> Generator[memoryview, None, None]:
        buffer = np.empty(min(most, part.count), part.dtype.storage)
        for first, count in part.blocks(most):
            data, at = as_bytes(buffer[:count]), part.start + first * part.dtype.width
            self.work.base.read(data, at)
            self.work.out.write(data, at)
            yield data


def _model_layout(fd: int) -> Layout:
    layout = read_layout(fd)
    if not layout.canonical or layout.metadata != MODEL_METADATA:
        raise PayloadError("the model to fold into is not a canonical model file")
    return layout
