"""Tensor files: safetensors with a canonical header, read and written in blocks."""

from fedelta.tensors._dtype import DType
from fedelta.tensors._layout import Layout, read_layout
from fedelta.tensors._schema import (
    MODEL_METADATA,
    STATE_METADATA,
    UPDATE_METADATA,
    Schema,
    TensorSpec,
    grouped,
    optimizer_group,
    shared_group,
    state_schema,
    update_schema,
)

__all__ = [
    "MODEL_METADATA",
    "STATE_METADATA",
    "UPDATE_METADATA",
    "DType",
    "Layout",
    "Schema",
    "TensorSpec",
    "grouped",
    "optimizer_group",
    "read_layout",
    "shared_group",
    "state_schema",
    "update_schema",
]
