"""Receiving files: bounded in number, fenced, spooled to disk as the bytes arrive."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fedelta.errors import DigestMismatchError, StalledError, SupersededError
from fedelta_server._tasks import wait_out
from fedelta_server.coordinator import Coordinator
from fedelta_server.room import Room
from fedelta_server.turns import Turns

T = TypeVar("T")

MAX_CONCURRENT = 32
"""Uploads received at a time; some others wait for their turn."""

MOST_WAITING = 32
"""Whoever waits has sent as much as the connection's window lets through, and that is in memory."""

STALL_SECONDS = 60.0
"""An upload that brings no bytes for this long is ended; what it brought is kept for its resumption."""


@dataclass(frozen=True, kw_only=True)
class Announced:
    """What the header of an upload says."""

    key: str
    """What is being uploaded: an assignment's id, or a name of the caller's. One upload at a time each."""
    digest: bytes
    length: int
    offset: int


@dataclass
class Stream:
    """An upload under way."""

    receiver: "asyncio.Task[Path] | None" = None
    superseded: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Uploads:
    """All uploads under way."""

    def __init__(self, coordinator: Coordinator, room: Room) -> None:
        self._coordinator = coordinator
        self._room = room
        self._turns = Turns(MAX_CONCURRENT, "uploads", most_waiting=MOST_WAITING)
        self._streams: dict[str, Stream] = {}

    @asynccontextmanager
    async def only(self, key: str) -> AsyncIterator[Stream]:
        """Makes the caller the only upload for a key: one under way is ended, or waited for once it is complete."""
        while (older := self._streams.get(key)) is not None:
            older.superseded = True
            if older.receiver is not None:
                older.receiver.cancel()
            await older.ended.wait()
        stream = self._streams[key] = Stream()
        try:
            async with self._turns.one():
                yield stream
        finally:
            del self._streams[key]
            stream.ended.set()

    async def receive(
        self, stream: Stream, announced: Announced, chunks: AsyncIterator[memoryview], moved: Callable[[int], None]
    ) -> Path:
        """Spools an upload; returns the complete file, not yet checked.

        `moved` hears of the bytes that come; what it raises ends the upload. Raises `SupersededError`, `StalledError`,
        `StorageError`, `BadRequestError`, or `DigestMismatchError` where the stream ended early.
        """
        receiver: asyncio.Task[Path] = asyncio.ensure_future(self._spool_with_room(announced, chunks, moved))
        stream.receiver = receiver
        try:
            if stream.superseded:
                receiver.cancel()
            return await receiver
        except asyncio.CancelledError:
            if not stream.superseded:
                receiver.cancel()
                await asyncio.wait([receiver])
                raise
            raise SupersededError("a newer upload of the same assignment took over") from None
        finally:
            stream.receiver = None

    async def _spool_with_room(
        self, announced: Announced, chunks: AsyncIterator[memoryview], moved: Callable[[int], None]
    ) -> Path:
        def counted(count: int) -> None:
            moved(count)
            claim.used(count)

        async with self._room.claimed(max(0, announced.length - announced.offset)) as claim:
            return await self._spool(announced, chunks, counted)

    async def _spool(
        self, announced: Announced, chunks: AsyncIterator[memoryview], moved: Callable[[int], None]
    ) -> Path:
        in_thread = self._coordinator.in_thread
        opening = asyncio.ensure_future(
            in_thread(
                self._coordinator.files.open_upload,
                announced.key,
                announced.digest,
                announced.length,
                announced.offset,
            )
        )
        cancelled = await wait_out(opening)
        upload = opening.result()
        writing: asyncio.Future[None] | None = None
        try:
            if cancelled:
                raise asyncio.CancelledError
            # One chunk is written while the next one is received: memory stays at two chunks an upload.
            while (chunk := await next_in_time(chunks)) is not None:
                if writing is not None:
                    await writing
                moved(len(chunk))
                writing = asyncio.ensure_future(in_thread(upload.write, chunk))
            if writing is not None:
                await writing
            if upload.held < announced.length:
                raise DigestMismatchError(f"the upload ended after {upload.held} of {announced.length} bytes")
            return upload.path
        finally:
            if writing is not None:
                await wait_out(writing)
            await in_thread(upload.close)


async def next_in_time(messages: AsyncIterator[T]) -> T | None:
    """The next message of an upload; None at its end. Raises `StalledError`."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            return await anext(messages, None)
    except TimeoutError:
        raise StalledError(f"no bytes came for {STALL_SECONDS:g} s; ask for the upload's status and go on") from None
