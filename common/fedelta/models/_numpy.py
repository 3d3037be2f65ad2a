"""Models that are a mapping of names to numpy arrays."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

from fedelta.errors import LearnerError
from fedelta.models._cells import Array, ArrayCell, Cell
from fedelta.tensors import DType

_DTYPES: dict[np.dtype[Any], DType] = {
    np.dtype(np.bool_): DType.BOOL,
    # numpy has no bfloat16: an array of uint16 is one of integers.
    **{dtype.storage: dtype for dtype in DType if dtype not in (DType.BF16, DType.BOOL)},
}


class ArraySource:
    """The arrays of a mapping. Training may change them in place or put others in their place."""

    def __init__(self, arrays: MutableMapping[str, Any]) -> None:
        self._arrays = arrays

    def cells(self, *, writable: bool) -> Mapping[str, Cell]:
        """See `Source`. Arrays that are read-only are replaced by writable ones where need be."""
        if writable:
            self._make_writable()
        return {name: _cell(name, value) for name, value in self._arrays.items()}

    def _make_writable(self) -> None:
        for name, value in self._arrays.items():
            if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and not value.flags.writeable):
                self._arrays[name] = np.array(value)


def _cell(name: object, value: object) -> ArrayCell:
    if not isinstance(name, str):
        raise LearnerError(f"the model's names must be strings, got {name!r}")
    # Arithmetic on arrays of shape () gives numpy scalars, which are not arrays.
    if not isinstance(value, np.ndarray | np.generic):
        raise LearnerError(f"tensor {name!r} is a {type(value).__name__}, not a numpy array")
    array: Array = np.asarray(value)
    dtype = _DTYPES.get(array.dtype)
    if dtype is None:
        known = ", ".join(str(found) for found in _DTYPES)
        raise LearnerError(f"tensor {name!r} has element type {array.dtype.str}; supported are {known}")
    return ArrayCell(array.view(dtype.storage), dtype)
