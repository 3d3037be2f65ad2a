"""Waiting longer and longer, and not all at the same time."""

import random
from collections.abc import Iterator

FIRST_SECONDS = 0.1
MOST_SECONDS = 5.0


def jittered(seconds: float) -> float:
    """Between 80 and 100 % of it, so that clients that lost the coordinator together do not come back together."""
    return seconds * random.uniform(0.8, 1.0)


def delays(first: float = FIRST_SECONDS, most: float = MOST_SECONDS) -> Iterator[float]:
    """Seconds to wait before each further try: doubling from `first` to `most`, jittered."""
    seconds = first
    while True:
        yield jittered(seconds)
        seconds = min(2 * seconds, most)
