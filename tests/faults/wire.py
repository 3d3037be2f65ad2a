"""The connection of each client, which can break, stall and garble. It runs in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.faults.garble import flipped
from tests.faults.orders import Points
from tests.net.relay import Link, Relay

T = TypeVar("T")

DATA_BYTES = 2000
"""A piece of this length or more carries tensors."""


class Wire(Relay):
    """A relay with the points "up" and "down" for each piece, "data up" and "data down" for those with tensors."""

    def __init__(self, target: str, points: Points) -> None:
        super().__init__(target)
        self._points = points
        self._stalled: set[Link] = set()

    async def treat(self, link: Link, piece: bytes, *, up: bool) -> bytes:
        way = "up" if up else "down"
        act = self._points.reach(f"data {way}") if len(piece) >= DATA_BYTES else None
        match act or self._points.reach(way):
            case "reset":
                raise ConnectionResetError
            case "stall":
                self._stalled.add(link)
            case "flip":
                return flipped(piece)
            case "truncate":
                sink = link.ends[up]
                sink.write(piece[: len(piece) // 2])
                await sink.drain()
                raise ConnectionResetError
            case "double":
                return piece + piece
        if link in self._stalled:
            # Both ends stay connected, and nothing comes through any more, until one of them gives up.
            await asyncio.Event().wait()
        return piece


class Wires:
    """A `Wire` for each client. Use it in a `with` statement."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires")
        self._wires: list[Wire] = []

    def lay(self, folder: Path) -> str:
        """Lays one that takes its orders from the folder; returns its client's end."""
        wire = Wire(self._target, Points(folder))
        self._run(wire.__aenter__())
        self._wires.append(wire)
        return wire.address

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            for wire in self._wires:
                self._run(wire.die())
        finally:
            self._stop()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
