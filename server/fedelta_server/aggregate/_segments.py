"""Which stretches of a model file are processed alike, and which parts of the files beside it belong to each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from fedelta.tensors import DType, Schema, TensorSpec

BLOCK_ELEMENTS = 1 << 18
"""Elements processed at a time: about a megabyte, so that a block stays in the processor's cache."""


@dataclass(frozen=True)
class Segment:
    """Consecutive tensors of one type, in the model and in the files beside it; a flat vector in each."""

    dtype: DType
    count: int
    """Number of elements, at least 1."""
    start: int
    """Where it begins, in bytes from the start of the file."""
    beside: tuple[int, ...] = ()
    """The same in other files, which hold it in the type in which differences travel."""

    def blocks(self, length: int) -> Iterator[tuple[int, int]]:
        """Cuts into (first element, number of elements), each block at most `length` elements long."""
        for first in range(0, self.count, length):
            yield first, min(length, self.count - first)

    def joined(self, after: "Segment") -> "Segment | None":
        """Both as one, where `after` goes on where this ends."""
        end = self.start + self.count * self.dtype.width
        width = self.dtype.update.width if self.beside else 0
        ends = tuple(at + self.count * width for at in self.beside)
        if (after.dtype, after.start, after.beside) != (self.dtype, end, ends):
            return None
        return replace(self, count=self.count + after.count)


def starts(schema: Schema, data_start: int) -> dict[str, int]:
    """Where each tensor of a canonical file begins, in bytes from the start of the file."""
    return {spec.name: data_start + at for spec, at in zip(schema.tensors, schema.offsets, strict=True)}


def segments(schema: Schema, at: Mapping[str, int], *beside: Mapping[str, int]) -> list[Segment]:
    """Cuts a file into as few segments as possible, in the order of its schema.

    `at` says where each tensor begins in the file, in bytes, and `beside` where each float tensor begins in others.
    """
    found: list[Segment] = []
    for spec in schema.tensors:
        if spec.count == 0:
            continue
        others = tuple(each[spec.name] for each in beside) if spec.dtype.is_float else ()
        here = Segment(spec.dtype, spec.count, at[spec.name], others)
        joined = found[-1].joined(here) if found else None
        if joined is None:
            found.append(here)
        else:
            found[-1] = joined
    return found


def locate(schema: Schema, at: Mapping[str, int], byte: int) -> tuple[TensorSpec, tuple[int, ...]]:
    """The tensor that holds a byte of the file's data, and the index of the element in it."""
    before = (spec for spec in schema.tensors if spec.count and at[spec.name] <= byte)
    spec = max(before, key=lambda spec: at[spec.name])
    flat = (byte - at[spec.name]) // spec.dtype.width
    return spec, tuple(int(i) for i in np.unravel_index(flat, spec.shape))
