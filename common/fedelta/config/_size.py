"""Numbers of bytes as people write them."""

import re
from typing import Self

_UNITS = {
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b)", re.IGNORECASE)
_MOST = 1 << 62


class Size(int):
    """Bytes, written as a whole number or as a string like "500kB", "20MB", "1.5GB" or "512MiB"."""

    @classmethod
    def parse(cls, written: object) -> Self:
        """Reads a size. Raises `ValueError` where it is none, or not positive."""
        count = cls._count(written)
        if not 0 < count < _MOST:
            raise ValueError(f"a size must be positive, got {written!r}")
        return cls(count)

    @staticmethod
    def _count(written: object) -> int:
        if isinstance(written, int) and not isinstance(written, bool):
            return written
        match = _PATTERN.fullmatch(written.strip()) if isinstance(written, str) else None
        if match is None or match[2].lower() not in _UNITS:
            raise ValueError(f'expected a size such as 20000000, "20MB" or "1.5GB", got {written!r}')
        return round(float(match[1]) * _UNITS[match[2].lower()])
