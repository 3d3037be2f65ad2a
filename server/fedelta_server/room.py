"""Room on the disk for uploads: what is announced is set aside before the first byte is written."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fedelta._words import size
from fedelta.errors import BusyError, StorageError
from fedelta_server.coordinator import Coordinator

RETRY_SECONDS = 10.0
"""About when one that found no room is to try again: a round is folded, or somebody tidied up."""


@dataclass(eq=False)
class Claim:
    """What an upload may still write. Two of the same size are two."""

    left: int

    def used(self, count: int) -> None:
        """So many bytes are on the disk now, and no longer counted as free there."""
        self.left = max(0, self.left - count)


class Room:
    """Shares out what is free on the disk among the uploads under way.

    Without it each would find the same space free, and all would break off when it is full, the journal with them.
    """

    def __init__(self, coordinator: Coordinator, keep_free: int) -> None:
        """`keep_free`: bytes that uploads leave free."""
        self._coordinator = coordinator
        self._keep_free = keep_free
        self._claims: list[Claim] = []
        self._checking = asyncio.Lock()

    @asynccontextmanager
    async def claimed(self, length: int) -> AsyncIterator[Claim]:
        """Sets room for so many bytes aside.

        Raises `BusyError` where other uploads have it, `StorageError` where there is none, both with a hint when to
        try again.
        """
        async with self._checking:
            missing = await self._missing(length)
            if missing > 0:
                await self._coordinator.in_thread(self._coordinator.files.drop_spares)
                missing = await self._missing(length)
            if missing > 0:
                raise self._refusal(length, missing)
            claim = Claim(length)
            self._claims.append(claim)
        try:
            yield claim
        finally:
            self._claims.remove(claim)

    async def _missing(self, length: int) -> int:
        free: int = await self._coordinator.in_thread(self._coordinator.files.free_bytes)
        return length + self._promised() + self._keep_free - free

    def _promised(self) -> int:
        return sum(claim.left for claim in self._claims)

    def _refusal(self, length: int, missing: int) -> BusyError | StorageError:
        retry = RETRY_SECONDS * random.uniform(0.5, 1.5)
        if missing <= self._promised():
            words = f"uploads under way take the room that {size(length)} need; try again"
            return BusyError(words, retry_seconds=retry)
        return StorageError(
            f"the coordinator's disk is full: {size(missing)} more must be free for {size(length)}, of which "
            f"{size(self._keep_free)} stay free for its own work (--keep-free)",
            retry_seconds=retry,
        )
