"""Order statistics through sums alone: the value of a rank is found byte by byte, from counts that sites add up.

A float64 has a 64-bit key that is ordered as the values are. Of such keys every site counts how many begin with each
of the 256 bytes. The sums say which byte the key of the wanted rank begins with, so that the next round counts only
keys that begin with it, by their second byte. After 8 rounds the key is known, and with it the value: exactly, since
keys and values stand for each other.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedelta.errors import PayloadError

ROUNDS = 8
"""Bytes of a key."""
FANOUT = 256
"""Values of a byte."""

Keys = NDArray[np.uint64]

_SIGN = np.uint64(1 << 63)
_ALL = np.uint64((1 << 64) - 1)


def sorted_keys(values: NDArray[np.float64]) -> Keys:
    """The keys of values, least first. NaN has none; -0.0 counts as 0.0."""
    bits = (values + 0.0).view(np.uint64)
    found = bits ^ np.where(bits & _SIGN, _ALL, _SIGN)
    found.sort()
    return found


def value_of(key: int) -> float:
    """The value that has this key."""
    bits = np.uint64(key) ^ (_SIGN if key >> 63 else _ALL)
    return float(bits.view(np.float64))


def rank(level: float, count: int) -> int:
    """Which of `count` values in order, from 0, is the quantile `level`.

    It is the least value that at least the share `level` of the values does not exceed: numpy's method "inverted_cdf",
    and rounded as numpy rounds. Level 0 is the minimum, level 1 the maximum.
    """
    return max(0, int(np.ceil(np.float64(count) * level - 1.0)))


@dataclass(frozen=True)
class Interval:
    """Keys that begin alike, and which of them is wanted."""

    prefix: int = 0
    """The bytes they begin with, as a number."""
    depth: int = 0
    """How many bytes that are."""
    rank: int = 0
    """The place of the wanted key among them, from 0."""
    held: int = 0
    """How many there are at all sites."""

    def count(self, keys: Keys) -> NDArray[np.int64]:
        """How many of these sorted keys are in the interval, by their next byte."""
        shift = 56 - 8 * self.depth
        starts = np.uint64(self.prefix << (shift + 8)) + (np.arange(FANOUT, dtype=np.uint64) << np.uint64(shift))
        last = starts[-1] | np.uint64((1 << shift) - 1)
        return np.diff(np.searchsorted(keys, starts), append=np.searchsorted(keys, last, side="right"))

    def narrowed(self, counts: NDArray[Any]) -> "Interval":
        """One byte further, by the counts of all sites. Raises `PayloadError` where those are of other values."""
        ends = np.cumsum(counts)
        if ends[-1] != self.held:
            raise PayloadError(
                f"round {self.depth + 1} counted {ends[-1]:g} values where round {max(self.depth, 1)} had {self.held}: "
                "a site's data changed meanwhile, or other sites took part. Submit the statistics again"
            )
        byte = int(np.searchsorted(ends, self.rank, side="right"))
        before = int(ends[byte]) - int(counts[byte])
        return Interval(self.prefix << 8 | byte, self.depth + 1, self.rank - before, int(counts[byte]))


def found(level: float, count: int, counts: NDArray[Any]) -> Interval:
    """Where the quantile `level` of `count` values (at least 1) lies, after the rounds whose counts are given."""
    interval = Interval(rank=rank(level, count), held=count)
    for of_round in counts:
        interval = interval.narrowed(of_round)
    return interval
