"""Bandwidth caps: how fast bytes go in one direction."""

import asyncio

from fedelta.wire import bulk

CHUNKS_PER_SECOND = 4
"""Capped uploads go in chunks of a quarter of a second, so that the other end sees them move."""


class TokenBucket:
    """Lets `rate` bytes pass in a second, and `burst` at once after a pause. Knows no clock: it is told the time."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at: float | None = None

    def take(self, count: int, now: float) -> float:
        """Takes `count` bytes at `now`; returns for how many seconds they are to wait. Never refuses: it lends."""
        since = 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        self._tokens = min(self._burst, self._tokens + since * self._rate) - count
        return max(0.0, -self._tokens / self._rate)


class Pace:
    """What goes in one direction: how fast it may, and how much it was."""

    def __init__(self) -> None:
        self.moved = 0
        """Bytes that went since the client started, repeated ones included."""
        self._cap: int | None = None
        self._bucket: TokenBucket | None = None
        self.chunk_bytes = bulk.CHUNK_BYTES
        """How much is to be sent at once."""

    def cap(self, bytes_per_second: int | None) -> None:
        """From now on it goes no faster than this. None: as fast as it can."""
        if bytes_per_second == self._cap:
            return
        self._cap = bytes_per_second
        self.chunk_bytes, self._bucket = bulk.CHUNK_BYTES, None
        if bytes_per_second is not None:
            self.chunk_bytes = min(bulk.CHUNK_BYTES, max(1, bytes_per_second // CHUNKS_PER_SECOND))
            self._bucket = TokenBucket(bytes_per_second, self.chunk_bytes)

    async def spend(self, count: int) -> None:
        """Notes `count` bytes, and waits as long as they have to."""
        self.moved += count
        if self._bucket is not None:
            await asyncio.sleep(self._bucket.take(count, asyncio.get_running_loop().time()))
