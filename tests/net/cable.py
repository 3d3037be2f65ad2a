"""A cable with the faults of a real line: a rate, a delay, lost packets. It runs in the test's own loop.

Not every kernel has netem, so the packets go through this process: each end is a TAP device.
"""

import asyncio
import fcntl
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Self

from tests.net.relay import News

_TUN = Path("/dev/net/tun")
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI = 0x400454CA, 0x0002, 0x1000
_FRAME_BYTES = 2048
_QUEUE_SECONDS = 0.2
"""What a router's queue holds; what comes while it is full is dropped."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """What happens to packets, each way."""

    bits_per_second: float = 20e6
    delay_seconds: float = 0.025
    loss: float = 0.0
    """The share of packets that do not arrive."""
    seed: int = 7


class Way:
    """One direction of a cable."""

    def __init__(self, line: Line, source: FileIO, sink: FileIO, news: News) -> None:
        self.carried = 0
        """Bytes that arrived, with the headers of their packets."""
        self.lost = 0
        """Packets that did not, by the line's fault."""
        self._line, self._source, self._sink, self._news = line, source, sink, news
        self._random = random.Random(line.seed)
        self._free_at = 0.0
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._loop.add_reader(self._source, self._take)

    def stop(self) -> None:
        self._loop.remove_reader(self._source)

    def _take(self) -> None:
        # None: there is no more for now.
        while (packet := self._source.read(_FRAME_BYTES)) is not None:
            self._send(packet)

    def _send(self, packet: bytes) -> None:
        now = self._loop.time()
        begins = max(now, self._free_at)
        if begins - now > _QUEUE_SECONDS:
            return
        self._free_at = begins + 8 * len(packet) / self._line.bits_per_second
        if self._random.random() < self._line.loss:
            self.lost += 1
        else:
            self._loop.call_at(self._free_at + self._line.delay_seconds, self._deliver, packet)

    def _deliver(self, packet: bytes) -> None:
        # That end may be gone; an OSError says that it is down.
        with suppress(OSError):
            if not self._sink.closed:
                self.carried += self._sink.write(packet) or 0
                self._news.tell()


class Cable:
    """Joins two machines while its `with` block lasts. `up` leads from the second to the first."""

    def __init__(self, line: Line) -> None:
        self.news = News()
        """Of each packet that arrives."""
        self._line = line

    def __enter__(self) -> Self:
        with ExitStack() as held:
            (first, self._first), (second, self._second) = (held.enter_context(_tap()) for _ in range(2))
            self.up = Way(self._line, second, first, self.news)
            for way in (self.up, Way(self._line, first, second, self.news)):
                way.start()
                held.callback(way.stop)
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def plug(self, first: str, second: str) -> None:
        """Gives each of the network namespaces its end, as a device named "cable"."""
        for device, machine in ((self._first, first), (self._second, second)):
            words = ("link", "set", device, "netns", machine, "name", "cable")
            subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def _tap() -> Iterator[tuple[FileIO, str]]:
    """A TAP device and its name; it is gone with its file, in whichever network namespace it is then."""
    with FileIO(os.open(_TUN, os.O_RDWR | os.O_NONBLOCK), "r+") as end:
        asked = struct.pack("16sH22x", b"fedelta%d", _IFF_TAP | _IFF_NO_PI)
        yield end, fcntl.ioctl(end, _TUNSETIFF, asked)[:16].rstrip(b"\0").decode()


def missing() -> str:
    """Why there can be no such cable here; empty where there can."""
    try:
        with _tap():
            return ""
    except OSError as error:
        return f"no TAP device can be made here: {error}"
