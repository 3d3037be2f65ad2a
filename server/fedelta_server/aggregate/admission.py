"""What a tensor file must be before it is acknowledged: an acknowledged update is never rejected later."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from fedelta.errors import DigestMismatchError, PayloadError, SchemaMismatchError, WeightError
from fedelta.learner import MAX_EXAMPLES
from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, Layout, Schema, read_layout, update_schema
from fedelta_server.aggregate._scan import ADVICE, Scanner
from fedelta_server.aggregate._segments import segments, starts
from fedelta_server.store.io import opened, read_exactly, storage_errors, write_fully

MAX_FACT = 1e18
"""Facts beyond this cannot be right, and could take what is computed with them out of range."""

_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Admitted:
    """What admission learnt about an update."""

    norm: float
    """The update's Euclidean norm over all tensors, to about four digits."""


class Stored(NamedTuple):
    """A file that was written: BLAKE3-256 of all of it, and its length in bytes."""

    digest: bytes
    length: int


def check_weight(examples: int) -> None:
    """Checks the number of examples an update counts for. Raises `WeightError`."""
    if examples < 1:
        raise WeightError(
            f"the update counts {examples} examples. An update without examples has no weight in the average: "
            "return the number of examples that train() used"
        )
    if examples > MAX_EXAMPLES:
        raise WeightError(f"the update counts {examples} examples; more than 2^53 cannot be right")


def check_facts(facts: Mapping[str, float], wanted: Mapping[str, str]) -> dict[str, float]:
    """Checks what an update says of itself, and returns what is wanted of it.

    `wanted`: by name of a fact, who needs it, in words. Raises `PayloadError`, naming the fact and who needs it.
    """
    for name, who in wanted.items():
        if name not in facts:
            raise PayloadError(
                f"the update does not say its {name!r}, which {who} needs. Is fedelta too old at the client?"
            )
        value = facts[name]
        # NaN is in no interval.
        if not -MAX_FACT <= value <= MAX_FACT:
            raise PayloadError(f"the update says that its {name!r} is {value}, and {who} computes with it. {ADVICE}")
        if name == "steps" and value <= 0:
            raise PayloadError(f"the update says that its 'steps' are {value:g}; {who} divides by them: it must train")
    return {name: facts[name] for name in wanted}


def admit_update(path: Path, model_schema: Schema, digest: bytes, length: int, shared: Sequence[str] = ()) -> Admitted:
    """Checks a received update to a model of this schema, in one pass over the file.

    `shared`: the names under which the plan shares tensors; updates bring how the client changed its own.

    Raises, in this order of precedence: `DigestMismatchError` (also for a wrong length), `SchemaMismatchError`
    or another `PayloadError` about the header, `NotFiniteError` or `PayloadError` about values.
    """
    schema = update_schema(model_schema, shared)
    header = schema.header(UPDATE_METADATA)
    at = starts(schema, len(header))
    with opened(path) as fd, storage_errors(path):
        _check_length(fd, length)
        scanner = Scanner()
        if length == len(header) + schema.data_bytes and os.pread(fd, len(header), 0) == header:
            scanner.opaque(fd, 0, len(header))
            scanner.data(fd, segments(schema, at))
            _check_digest(scanner.digest, digest)
        else:
            scanner.opaque(fd, 0, length)
            _check_digest(scanner.digest, digest)
            raise _explain(read_layout(fd), schema)
    scanner.check_finite(schema, at)
    return Admitted(norm=math.sqrt(scanner.sum_of_squares))


def admit_model(path: Path, digest: bytes, length: int) -> Layout:
    """Checks a received initial model: canonical, at least one float tensor, all floats finite; returns its layout.

    Raises as `admit_update` does.
    """
    with opened(path) as fd, storage_errors(path):
        _check_length(fd, length)
        _check_digest(_hash(fd), digest)
        layout = read_layout(fd)
        if not layout.canonical or layout.metadata != MODEL_METADATA:
            raise SchemaMismatchError("the model file is not in canonical form; write it with fedelta")
        _check_values(fd, layout)
    return layout


def import_model(source: Path, target: Path) -> Stored:
    """Rewrites any valid safetensors file (any order of tensors, any metadata) as a canonical model file, in blocks.

    Returns digest and length of what it wrote to `target`. Raises `PayloadError` where the source is no
    safetensors file or no usable model (see `admit_model`), `StorageError` where the disk fails.
    """
    with opened(source) as fd, storage_errors(source):
        layout = read_layout(fd)
        _check_values(fd, layout)
        return _rewrite(fd, layout, target)


def read_schema(path: Path) -> Schema:
    """The tensors of a stored file. Raises `PayloadError` where it is none."""
    with opened(path) as fd, storage_errors(path):
        return read_layout(fd).schema


def file_digest(path: Path) -> bytes:
    """BLAKE3-256 of a file, read in blocks."""
    with opened(path) as fd, storage_errors(path):
        return _hash(fd)


def _hash(fd: int) -> bytes:
    scanner = Scanner()
    scanner.opaque(fd, 0, os.fstat(fd).st_size)
    return scanner.digest


def _check_length(fd: int, announced: int) -> None:
    found = os.fstat(fd).st_size
    if found != announced:
        raise DigestMismatchError(f"{announced} bytes were announced, {found} were received")


def _check_digest(found: bytes, announced: bytes) -> None:
    if found != announced:
        raise DigestMismatchError(
            f"the bytes received have the digest {found.hex()[:16]}…, announced was {announced.hex()[:16]}…: "
            "they were garbled on the way, or the file changed while it was sent"
        )


def _explain(found: Layout, expected: Schema) -> PayloadError:
    difference = expected.difference(found.schema)
    if difference is not None:
        return SchemaMismatchError(f"the update does not fit the job's model: {difference}")
    return SchemaMismatchError("the update has the right tensors, but the file is not in canonical form")


def _check_values(fd: int, layout: Layout) -> None:
    if not any(spec.dtype.is_float for spec in layout.schema.tensors):
        raise PayloadError("the model has no tensor of floating point numbers: there is nothing to train")
    scanner = Scanner()
    scanner.data(fd, segments(layout.schema, layout.offsets))
    scanner.check_finite(layout.schema, layout.offsets)


def _rewrite(fd: int, layout: Layout, target: Path) -> Stored:
    header = layout.schema.header(MODEL_METADATA)
    hasher = blake3(header)
    buffer = memoryview(bytearray(_COPY_BYTES))
    with opened(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as out, storage_errors(target):
        write_fully(out, header, 0)
        at = len(header)
        for spec in layout.schema.tensors:
            for first in range(0, spec.nbytes, _COPY_BYTES):
                block = buffer[: min(_COPY_BYTES, spec.nbytes - first)]
                read_exactly(fd, block, layout.offsets[spec.name] + first)
                write_fully(out, block, at)
                hasher.update(block)
                at += len(block)
    return Stored(hasher.digest(), at)
