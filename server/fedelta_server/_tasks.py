"""Waiting for work to end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


async def wait_out(work: "asyncio.Future[Any]") -> bool:
    """Waits until the work is done; returns whether the caller was cancelled meanwhile, which is then its to raise.

    A thread goes on when the task that waits for it is cancelled. Whoever closes its file or starts the next piece
    of work then would do so under its feet.
    """
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled


class Calls:
    """Counts the calls under way, so that a shutdown can wait for their end."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A call is under way for the length of the `with` block."""
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    async def idle(self) -> None:
        """Waits until no call is under way."""
        await self._idle.wait()
