"""Which tensors a file holds, and the canonical file layout that follows from it.

The layout is safetensors' (8-byte header length, JSON header, data), with everything that is free in that
format fixed, because a file's digest is its identity: tensors by width of their type descending, then by
name; keys sorted; no white space; the header padded with spaces so that data starts at a multiple of 64.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from fedelta.errors import PayloadError
from fedelta.tensors._dtype import DType

DATA_ALIGNMENT = 64
METADATA_KEY = "__metadata__"

_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type and shape of one tensor."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    @cached_property
    def count(self) -> int:
        """Number of elements; 1 for shape ()."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        return self.count * self.dtype.width

    def __str__(self) -> str:
        return f"{self.dtype.label}{list(self.shape)}"


def _member(key: str, value: object) -> str:
    return f"{_json(key)}:{_json(value)}"


def _entry(spec: TensorSpec, at: int) -> str:
    # By hand: a model may have many thousands of tensors, and dumping objects takes five times as long.
    dtype, shape = spec.dtype.label, ",".join(map(str, spec.shape))
    return f'{_json(spec.name)}:{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[{at},{at + spec.nbytes}]}}'


def _canonical_key(spec: TensorSpec) -> tuple[int, str]:
    return (-spec.dtype.width, spec.name)


@dataclass(frozen=True)
class Schema:
    """The tensors of a file, in canonical order."""

    tensors: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, tensors: Iterable[TensorSpec]) -> "Schema":
        """Puts tensors into canonical order. Raises `PayloadError` on a name that appears twice or is reserved."""
        ordered = tuple(sorted(tensors, key=_canonical_key))
        names = {spec.name for spec in ordered}
        if len(names) < len(ordered):
            raise PayloadError("two tensors have the same name")
        if METADATA_KEY in names:
            raise PayloadError(f"a tensor cannot be named {METADATA_KEY!r}")
        return cls(ordered)

    @cached_property
    def data_bytes(self) -> int:
        """Bytes of data of all tensors."""
        return sum(spec.nbytes for spec in self.tensors)

    @cached_property
    def by_name(self) -> Mapping[str, TensorSpec]:
        """The tensors by name."""
        return {spec.name: spec for spec in self.tensors}

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Where each tensor begins, in bytes from the start of the data."""
        at, found = 0, []
        for spec in self.tensors:
            found.append(at)
            at += spec.nbytes
        return tuple(found)

    @cached_property
    def update(self) -> "Schema":
        """See `update_schema`."""
        floats = (spec for spec in self.tensors if spec.dtype.is_float)
        return Schema.of(TensorSpec(spec.name, spec.dtype.update, spec.shape) for spec in floats)

    def header(self, metadata: Mapping[str, str]) -> bytes:
        """The canonical start of a file: 8-byte length and padded JSON. Its length is where data starts."""
        entries = [_member(METADATA_KEY, dict(sorted(metadata.items())))] if metadata else []
        entries += map(_entry, self.tensors, self.offsets)
        text = f"{{{','.join(entries)}}}".encode()
        padded = text + b" " * (-(len(text) + 8) % DATA_ALIGNMENT)
        return len(padded).to_bytes(8, "little") + padded

    def difference(self, found: "Schema") -> str | None:
        """The first way in which `found` is not this schema, in words: which tensor, expected, got."""
        for spec in self.tensors:
            other = found.by_name.get(spec.name)
            if other is None:
                return f"tensor {spec.name!r} is missing (expected {spec})"
            if (other.dtype, other.shape) != (spec.dtype, spec.shape):
                return f"tensor {spec.name!r}: expected {spec}, got {other}"
        extra = next((spec for spec in found.tensors if spec.name not in self.by_name), None)
        return None if extra is None else f"tensor {extra.name!r} ({extra}) is not in the job's model"


def shared_group(name: str) -> str:
    """The group of the tensors that a plan shares between coordinator and clients under a name."""
    return f"shared.{name}"


def optimizer_group(name: str) -> str:
    """The group of the tensors that a server optimizer keeps under a name."""
    return f"optimizer.{name}"


def grouped(group: str, tensor: str) -> str:
    """What the tensor of a group is called that belongs to a tensor of the model."""
    return f"{group}/{tensor}"


def update_schema(model: Schema, shared: Sequence[str] = ()) -> Schema:
    """The schema of updates to a model: a difference for every float tensor, and one for each of its shared tensors.

    `shared`: the names under which the plan shares tensors (`LocalTraining.shared`); see `state_schema` for theirs.

    Integer and boolean tensors (such as BatchNorm's counter of batches) are constants of the job: they stay as
    the initial model has them and do not travel. Averaging them would be meaningless.
    """
    if not shared:
        return model.update
    return Schema.of([*model.update.tensors, *state_schema(model, map(shared_group, shared)).tensors])


def state_schema(model: Schema, groups: Iterable[str]) -> Schema:
    """The schema of a state file: in each group a tensor for every float tensor of the model.

    They have the shape of the model's tensor and the type in which its differences travel, and are called
    `grouped(group, tensor)`. Groups are `shared_group`s and `optimizer_group`s.
    """
    return Schema.of(
        TensorSpec(grouped(group, spec.name), spec.dtype, spec.shape)
        for group in groups
        for spec in model.update.tensors
    )


MODEL_METADATA: Mapping[str, str] = {"fedelta.kind": "model"}
"""Metadata of every model file."""

UPDATE_METADATA: Mapping[str, str] = {"fedelta.codec": "float32", "fedelta.kind": "update"}
"""Metadata of every update file."""

STATE_METADATA: Mapping[str, str] = {"fedelta.kind": "state"}
"""Metadata of every state file: what a plan's parts keep from version to version, and share with clients."""
