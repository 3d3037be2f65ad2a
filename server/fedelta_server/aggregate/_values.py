"""Blocks of stored values as numbers that can be computed with, and back.

float32 and float64 are computed with as they are; float16 and bfloat16 are widened to float32, which is exact.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedelta.tensors import DType

Block = NDArray[np.floating[Any]]
"""A flat block of float32 or float64 values."""
Stored = NDArray[Any]
"""A flat block of values as they lie in a file; bfloat16 as uint16."""

_SAFE_SQUARES = 1e36
"""A sum of squares below this is exact enough, and no value in it exceeds 1e18."""
_TINY_SQUARES = 1e-24
"""A sum of squares below this may have lost values whose squares underflow in float32."""

_EXPONENT_BITS = {DType.F16: 0x7C00, DType.BF16: 0x7F80}


def is_narrow(dtype: DType) -> bool:
    """Whether stored values must be widened before one computes with them."""
    return dtype in _EXPONENT_BITS


def widen(stored: Stored, dtype: DType, out: Block) -> None:
    """Writes float16 or bfloat16 values to `out`, float32."""
    if dtype is DType.BF16:
        bits = out.view(np.uint32)
        np.copyto(bits, stored)
        np.left_shift(bits, 16, out=bits)
    else:
        np.copyto(out, stored)


def narrow(block: Block, dtype: DType, out: Stored) -> None:
    """Rounds finite float32 values to float16 or bfloat16, to nearest, ties to even. Overwrites `block`."""
    if dtype is DType.BF16:
        bits = block.view(np.uint32)
        # Adding 0x7fff, and one more where the kept part is odd, carries into it exactly where one rounds up.
        odd = (bits >> 16) & 1
        bits += odd
        bits += 0x7FFF
        np.right_shift(bits, 16, out=bits)
        np.copyto(out, bits, casting="unsafe")
    else:
        np.copyto(out, block, casting="same_kind")


def first_not_finite(stored: Stored, dtype: DType) -> int | None:
    """The index of the first NaN or infinity among stored values."""
    if is_narrow(dtype):
        mask = _EXPONENT_BITS[dtype]
        bad = (stored.view(np.uint16) & mask) == mask
    elif np.dot(stored, stored) < np.inf:
        return None
    else:
        bad = ~np.isfinite(stored)
    return int(bad.argmax()) if bad.any() else None


def squares(block: Block) -> float:
    """The sum of squares, computed fast where that is accurate; NaN or infinite where a value is."""
    with np.errstate(over="ignore", invalid="ignore"):
        fast = float(np.dot(block, block))
        if _TINY_SQUARES < fast < _SAFE_SQUARES:
            return fast
        wide = block.astype(np.float64)
        return float(np.dot(wide, wide))


def as_bytes(values: Stored) -> memoryview:
    """The memory of a block."""
    return values.view(np.uint8).data
