"""Sending files, and telling the engine how many bytes moved."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

from fedelta.errors import BadRequestError
from fedelta.wire.bulk import CHUNK_BYTES
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import events
from fedelta_server.turns import Turns

MAX_CONCURRENT = 32
"""Downloads at a time: what gRPC holds for each is in memory."""

MOST_WAITING = 4096
"""Whoever waits for a download has sent nothing but the question."""

STALL_SECONDS = 60.0
"""A download that takes no bytes for this long no longer keeps others waiting."""

_REPORT_SECONDS = 1.0


class Meter:
    """Counts the bytes that move for an assignment; moving bytes extend its lease."""

    def __init__(self, coordinator: Coordinator, session: str, assignment: str) -> None:
        self._coordinator = coordinator
        self._session = session
        self._assignment = assignment
        self._up = self._down = 0
        self._reported = coordinator.now()

    def up(self, count: int) -> None:
        """Bytes came in."""
        self._up += count
        self._report_now_and_then()

    def down(self, count: int) -> None:
        """Bytes went out."""
        self._down += count
        self._report_now_and_then()

    def flush(self) -> None:
        """Tells the engine what it has not heard yet."""
        now = self._coordinator.now()
        self._coordinator.note(
            events.BytesMoved(at=now, session=self._session, assignment=self._assignment, up=self._up, down=self._down)
        )
        self._up = self._down = 0
        self._reported = now

    def _report_now_and_then(self) -> None:
        if self._coordinator.now() - self._reported > _REPORT_SECONDS:
            self.flush()


class Downloads:
    """All models on their way out: bounded in number."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._turns = Turns(MAX_CONCURRENT, "downloads", most_waiting=MOST_WAITING)

    @asynccontextmanager
    async def one(self, path: Path, length: int, offset: int) -> AsyncIterator[AsyncIterator[bytes]]:
        """Waits for its turn and gives the bytes of a file of this length from an offset.

        Raises `BadRequestError` where the offset lies beyond its end, `BusyError` with a hint when to try again.
        """
        if offset > length:
            raise BadRequestError(f"offset {offset} lies beyond the file's {length} bytes")
        async with self._turns.one() as turn:
            read = read_chunks(self._coordinator, path, offset, length)
            async with aclosing(_unless_stalled(read, turn.give_up)) as chunks:
                yield chunks


async def _unless_stalled(
    chunks: AsyncGenerator[bytes, None], stalled: Callable[[], None]
) -> AsyncGenerator[bytes, None]:
    """The chunks; `stalled` is called where one is not taken in time. It goes on: the peer may only be slow."""
    loop = asyncio.get_running_loop()
    async with aclosing(chunks):
        async for chunk in chunks:
            alarm = loop.call_later(STALL_SECONDS, stalled)
            try:
                yield chunk
            finally:
                alarm.cancel()


async def read_chunks(coordinator: Coordinator, path: Path, offset: int, length: int) -> AsyncGenerator[bytes, None]:
    """The bytes of a file from an offset. The next chunk is read while the last one is sent."""
    fd = os.open(path, os.O_RDONLY)
    ahead: asyncio.Future[bytes] | None = None
    try:
        while offset < length:
            ahead = ahead or _read(coordinator, fd, offset)
            chunk = await ahead
            offset += len(chunk)
            ahead = _read(coordinator, fd, offset) if offset < length else None
            yield chunk
    finally:
        if ahead is not None:
            await asyncio.wait([ahead])
        os.close(fd)


def _read(coordinator: Coordinator, fd: int, offset: int) -> "asyncio.Future[bytes]":
    return asyncio.ensure_future(coordinator.in_thread(os.pread, fd, CHUNK_BYTES, offset))
