"""A bounded number of transfers at a time. A few more wait; the others are told when to come again."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedelta.errors import BusyError

MOST_WAITING = 32
"""Whoever waits has sent as much as the connection's window lets through, and that is in memory."""

TURN_SECONDS = 30.0
"""How long one waits."""

_FIRST_GUESS_SECONDS = 1.0
_NEWEST_COUNTS = 0.2
_MOST_RETRY_SECONDS = 60.0


class Turns:
    """Who may go at the moment. For one event loop."""

    def __init__(self, most: int, noun: str) -> None:
        """`most` at a time; `noun`: what they are, for people."""
        self._most = most
        self._noun = noun
        self._slots = asyncio.Semaphore(most)
        self._waiting = 0
        self._seconds = _FIRST_GUESS_SECONDS
        """How long one takes of late."""

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Within it is the caller's turn. Raises `BusyError`, with a hint, where too many wait or it takes too long."""
        if self._slots.locked() and self._waiting >= MOST_WAITING:
            raise self._busy()
        await self._wait()
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            yield
        finally:
            self._slots.release()
            self._seconds += _NEWEST_COUNTS * (clock() - began - self._seconds)

    async def _wait(self) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            raise self._busy() from None
        finally:
            self._waiting -= 1

    def _busy(self) -> BusyError:
        queue = self._seconds * (1 + self._waiting / self._most)
        # Not the same for all who are refused now, or they would be back together.
        retry = min(_MOST_RETRY_SECONDS, queue * random.uniform(0.5, 1.5))
        return BusyError(f"{self._most} {self._noun} are under way; try again", retry_seconds=retry)
