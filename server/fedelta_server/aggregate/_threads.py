"""Blocks that are worked on by several threads and taken in their order."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

THREADS = 2
"""Threads that read and compute; what they do to a block does not depend on how many they are."""


def in_order(workers: Sequence[Callable[[int, int], T]], blocks: Iterable[tuple[int, int]]) -> Generator[T, None, None]:
    """What the workers make of the blocks (first element, number of elements), from first to last.

    Each worker has a thread and reuses its memory: what it made is valid until the next is asked for.
    """
    pending: deque[Future[T]] = deque()
    with ThreadPoolExecutor(len(workers), thread_name_prefix="fold") as pool:
        turns = itertools.cycle(workers)
        for first, count in blocks:
            if len(pending) == len(workers):
                yield pending.popleft().result()
            pending.append(pool.submit(next(turns), first, count))
        while pending:
            yield pending.popleft().result()
