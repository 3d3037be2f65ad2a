"""Waiting longer and longer, and not all at the same time."""

import random
from collections.abc import Iterator

FIRST_SECONDS = 0.1
MOST_SECONDS = 5.0

_FIRST_SHARE = 0.5
"""Who finds nobody when it comes back begins to ask again at this share of the time within which all are to be back."""


def jittered(seconds: float) -> float:
    """Between 80 and 100 % of it, so that clients that lost the coordinator together do not come back together."""
    return seconds * random.uniform(0.8, 1.0)


def delays(first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> Iterator[float]:
    """Seconds to wait before each further try: doubling from `first` to `most`, jittered."""
    seconds = first
    while True:
        yield jittered(seconds)
        seconds = min(2 * seconds, most)


def returns(within: float) -> Iterator[float]:
    """Seconds to wait before each try of a client that lost the coordinator, as all others may have.

    The first is any time `within` that many seconds, so that they come back spread over it after a short absence; the
    later ones double up to it, and differ by half, so that they are spread over it after a long one, too.
    """
    yield max(jittered(FIRST_SECONDS), random.uniform(0, within))
    seconds, most = max(2 * FIRST_SECONDS, _FIRST_SHARE * within), max(MOST_SECONDS, within)
    while True:
        yield seconds * random.uniform(0.5, 1.0)
        seconds = min(2 * seconds, most)
