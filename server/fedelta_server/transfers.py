"""Sending files, and telling the engine how many bytes moved."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from fedelta.wire.bulk import CHUNK_BYTES
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import events

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


async def read_chunks(coordinator: Coordinator, path: Path, offset: int, length: int) -> AsyncIterator[bytes]:
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
