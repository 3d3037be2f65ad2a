"""Differences that are given, not made by subtraction: what a plan shares beside the model, or an update in whole."""

from collections.abc import Mapping
from types import MappingProxyType

from fedelta.errors import LearnerError
from fedelta.models._cells import Array
from fedelta.tensors import Schema

Given = Mapping[str, Array | None]
"""By name of the tensor in the update. None: all zeros."""

NOTHING_GIVEN: Given = MappingProxyType({})


def check_given(given: Given, update: Schema) -> None:
    """Checks that the tensors are the update's. Raises `LearnerError` naming one that is not."""
    for name, values in given.items():
        spec = update.by_name.get(name)
        if spec is None:
            raise LearnerError(f"there is no place for tensor {name!r} in an update to this model")
        if values is not None and (values.shape != spec.shape or values.dtype != spec.dtype.storage):
            raise LearnerError(f"tensor {name!r} is {values.dtype}{list(values.shape)}; an update has {spec}")


def fill_given(values: Array | None, start: int, stop: int, out: Array) -> None:
    """Copies elements from `start` to `stop`, in C order."""
    if values is None:
        out[:] = 0
    else:
        out[:] = values.reshape(-1)[start:stop]
