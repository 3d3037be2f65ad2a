"""A bounded number of transfers at a time. A few more wait; the others are told when to come again."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fedelta.errors import BusyError

TURN_SECONDS = 30.0
"""How long one waits."""

_FIRST_GUESS_SECONDS = 1.0
_NEWEST_COUNTS = 0.2
_MOST_RETRY_SECONDS = 60.0


class Turn:
    """Somebody's turn, until it is given up."""

    def __init__(self, slots: asyncio.Semaphore) -> None:
        self._slots = slots
        self._over = False

    def give_up(self) -> None:
        """Lets the next one go. Doing so again changes nothing."""
        if not self._over:
            self._over = True
            self._slots.release()


class Turns:
    """Who may go at the moment. For one event loop."""

    def __init__(self, most: int, noun: str, *, most_waiting: int) -> None:
        """`most` at a time, and `most_waiting` beside them; `noun`: what they are, for people."""
        self._most = most
        self._most_waiting = most_waiting
        self._noun = noun
        self._slots = asyncio.Semaphore(most)
        self._waiting = 0
        self._seconds = _FIRST_GUESS_SECONDS
        """How long one takes of late."""

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Turn]:
        """Within it is the caller's turn. Raises `BusyError`, with a hint, where too many wait or it takes too long."""
        if self._slots.locked() and self._waiting >= self._most_waiting:
            raise self._busy()
        await self._wait()
        turn, clock = Turn(self._slots), asyncio.get_running_loop().time
        began = clock()
        try:
            yield turn
        finally:
            turn.give_up()
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
