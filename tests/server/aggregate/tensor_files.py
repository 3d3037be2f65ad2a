"""Makes tensor files for the tests."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, DType, Schema, TensorSpec, update_schema

Array = NDArray[Any]

_DTYPES = {"f8": DType.F64, "f4": DType.F32, "f2": DType.F16, "i8": DType.I64, "i4": DType.I32, "u1": DType.U8}


def schema_of(tensors: Mapping[str, Array], bfloat: frozenset[str] = frozenset()) -> Schema:
    """The schema of named arrays; those in `bfloat` are uint16 and stand for bfloat16."""
    return Schema.of(
        TensorSpec(name, DType.BF16 if name in bfloat else _DTYPES[values.dtype.str[1:]], values.shape)
        for name, values in tensors.items()
    )


def write(path: Path, schema: Schema, metadata: Mapping[str, str], tensors: Mapping[str, Array]) -> Path:
    data = [np.ascontiguousarray(tensors[spec.name]).tobytes() for spec in schema.tensors]
    path.write_bytes(b"".join([schema.header(metadata), *data]))
    return path


def write_model(path: Path, tensors: Mapping[str, Array], bfloat: frozenset[str] = frozenset()) -> Schema:
    schema = schema_of(tensors, bfloat)
    write(path, schema, MODEL_METADATA, tensors)
    return schema


def write_update(path: Path, model: Schema, tensors: Mapping[str, Array]) -> Path:
    return write(path, update_schema(model), UPDATE_METADATA, tensors)


def read(path: Path, schema: Schema, metadata: Mapping[str, str] = MODEL_METADATA) -> dict[str, Array]:
    """The arrays of a canonical file; bfloat16 as uint16."""
    raw = path.read_bytes()
    header = schema.header(metadata)
    assert raw.startswith(header)
    assert len(raw) == len(header) + schema.data_bytes
    return {
        spec.name: np.frombuffer(raw, spec.dtype.storage, spec.count, len(header) + at).reshape(spec.shape)
        for spec, at in zip(schema.tensors, schema.offsets, strict=True)
    }
