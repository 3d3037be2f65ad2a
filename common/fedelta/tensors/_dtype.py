"""The element types a model may hold."""

import enum

import numpy as np


class DType(enum.Enum):
    """A safetensors element type: its name in the header, its width in bytes, how numpy stores it.

    numpy has no bfloat16: its values are held as uint16, the upper half of a float32.
    """

    F64 = ("F64", 8, "<f8")
    F32 = ("F32", 4, "<f4")
    F16 = ("F16", 2, "<f2")
    BF16 = ("BF16", 2, "<u2")
    I64 = ("I64", 8, "<i8")
    I32 = ("I32", 4, "<i4")
    I16 = ("I16", 2, "<i2")
    I8 = ("I8", 1, "<i1")
    U64 = ("U64", 8, "<u8")
    U32 = ("U32", 4, "<u4")
    U16 = ("U16", 2, "<u2")
    U8 = ("U8", 1, "<u1")
    BOOL = ("BOOL", 1, "<u1")

    def __init__(self, label: str, width: int, storage: str) -> None:
        self.label = label
        self.width = width
        self.storage = np.dtype(storage)

    @property
    def is_float(self) -> bool:
        """Whether values of this type are averaged; others are constants of the job."""
        return self in _UPDATE_DTYPE

    @property
    def update(self) -> "DType":
        """The type in which differences of such values travel: float64 for float64, else float32."""
        return _UPDATE_DTYPE[self]


_UPDATE_DTYPE = {
    DType.F64: DType.F64,
    DType.F32: DType.F32,
    DType.F16: DType.F32,
    DType.BF16: DType.F32,
}

BY_LABEL = {dtype.label: dtype for dtype in DType}
