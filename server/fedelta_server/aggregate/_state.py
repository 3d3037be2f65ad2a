"""The state of a plan's parts, from file to file: what server optimizers keep, and what is shared with clients."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedelta.errors import StorageError
from fedelta.parts import ServerOptimizer
from fedelta.tensors import STATE_METADATA, Schema, grouped, optimizer_group, read_layout, shared_group, state_schema
from fedelta_server.aggregate._files import Reader, Writer
from fedelta_server.aggregate._segments import starts
from fedelta_server.aggregate._values import Block, as_bytes
from fedelta_server.store.io import opened, storage_errors


@dataclass(frozen=True, kw_only=True)
class Carry:
    """What goes from version to version beside the model, in files of its own."""

    shared: tuple[str, ...] = ()
    """Names under which tensors are shared with clients; updates bring how each client changed its own."""
    source: Path | None = None
    """The state that belongs to the base. None: none was made yet, initial values are meant."""
    target: Path
    """Where the new state is written; nothing is where the plan has none."""


def state_groups(optimizer: ServerOptimizer, shared: Sequence[str]) -> dict[str, float]:
    """The groups of a plan's state file, each with its initial value. Empty: the plan keeps no state."""
    return {
        **{optimizer_group(name): optimizer.initial(name) for name in optimizer.state},
        **{shared_group(name): 0.0 for name in shared},
    }


@dataclass(frozen=True)
class OpenState:
    """The state files of a fold. Without groups there are none."""

    groups: Mapping[str, float]
    """Initial values."""
    places: tuple[Mapping[str, int], ...]
    """By group: where the tensor that belongs to each float tensor of the model begins, in bytes."""
    source: Reader | None = None
    target: Writer | None = None

    def read(self, place: int, initial: float, into: Block) -> None:
        """Fills a block with what lies at byte `place` of the state of the base."""
        if self.source is None:
            into.fill(initial)
        else:
            self.source.read(as_bytes(into), place)

    def write(self, block: Block, place: int) -> None:
        """Writes a block of the new state to byte `place`."""
        if self.target is not None:
            self.target.write(as_bytes(block), place)


@contextmanager
def open_state(model: Schema, groups: Mapping[str, float], carry: Carry | None) -> Iterator[OpenState]:
    """Opens the state files of a fold; the new one has its header. Raises `StorageError`."""
    if not groups:
        yield OpenState({}, ())
        return
    if carry is None:
        raise ValueError(f"the plan keeps {', '.join(groups)}, and is given no file for it")
    schema = state_schema(model, groups)
    header = schema.header(STATE_METADATA)
    at = starts(schema, len(header))
    places = tuple({spec.name: at[grouped(group, spec.name)] for spec in model.update.tensors} for group in groups)
    with ExitStack() as closing:
        source = None if carry.source is None else Reader(carry.source, closing.enter_context(opened(carry.source)))
        if source is not None:
            _check(source, header, len(header) + schema.data_bytes)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        target = Writer(carry.target, closing.enter_context(opened(carry.target, flags)))
        target.write(memoryview(header), 0)
        yield OpenState(groups, places, source, target)


def _check(source: Reader, header: bytes, length: int) -> None:
    with storage_errors(source.path):
        layout = read_layout(source.fd)
        fits = layout.canonical and os.pread(source.fd, len(header), 0) == header
        if not fits or os.fstat(source.fd).st_size != length:
            raise StorageError(f"{source.path}: it is not the state of this plan's parts; was it changed?")
