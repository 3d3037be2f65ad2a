"""What stands between a client and its coordinator: relays, proxies, and ports that speak something else.

All are asyncio servers on 127.0.0.1 in the test's own loop. They end with their `async with` block.
"""

import asyncio
import base64
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

PATIENCE_SECONDS = 20.0
PING_BYTES = 17
"""The length of a ping's frame, which comes alone: nothing else that a client sends is as long."""

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class News:
    """Lets tests wait until something has come about."""

    def __init__(self) -> None:
        self._happened = asyncio.Event()

    def tell(self) -> None:
        self._happened.set()

    async def until(self, met: Callable[[], object]) -> None:
        """Waits until `met` is true; looks again whenever something is told."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not met():
                self._happened.clear()
                await self._happened.wait()


class Listener:
    """A port on which `serve` deals with each connection."""

    def __init__(self) -> None:
        self.news = News()
        self.accepted = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    def __str__(self) -> str:
        return self.address

    async def die(self) -> None:
        """Listens no more and breaks what is open."""
        self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # it runs in one
        self._tasks.add(task)
        self.accepted += 1
        self.news.tell()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.serve(reader, writer)
        writer.transport.abort()
        self._tasks.discard(task)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Deals with one connection; it is broken off when this returns."""
        raise NotImplementedError


class Speaker(Listener):
    """Waits until it is spoken to, says one thing and hangs up. It says nothing and holds the line for None."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__()
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        if self._answer is None:
            while await reader.read(1 << 16):
                pass
            return
        writer.write(self._answer)
        await writer.drain()
        writer.write_eof()
        # An end without a reset, which would overtake the answer.
        while await reader.read(1 << 16):
            pass


@dataclass(eq=False)
class Link:
    """One connection that is passed on."""

    up: int = 0
    """Bytes from the client."""
    down: int = 0
    """Bytes to the client."""
    pings: int = 0
    """How many pings of HTTP/2 the client sent."""
    ends: list[asyncio.StreamWriter] = field(default_factory=list)

    def cut(self) -> None:
        """Breaks it, as a middlebox does: both ends are reset."""
        for end in self.ends:
            end.transport.abort()


class Relay(Listener):
    """Passes connections on to the first target that takes them, each time beginning with the next one."""

    def __init__(self, *targets: str, idle_seconds: float | None = None, dies_after_up: int | None = None) -> None:
        """`idle_seconds`: a connection silent for that long is cut. `dies_after_up`: so many bytes of one end all."""
        super().__init__()
        self.links: list[Link] = []
        self._targets = targets
        self._idle_seconds = idle_seconds
        self._dies_after_up = dies_after_up

    def cut(self) -> None:
        """Breaks all connections; new ones are taken."""
        for link in self.links:
            link.cut()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._join((reader, writer), await self._reach())

    async def _reach(self) -> Streams:
        turn = self.accepted % len(self._targets)
        for target in (*self._targets[turn:], *self._targets[:turn]):
            host, _, port = target.rpartition(":")
            with contextlib.suppress(ConnectionRefusedError):
                return await asyncio.open_connection(host, int(port))
        raise ConnectionRefusedError

    async def _join(self, client: Streams, target: Streams) -> None:
        link = Link(ends=[client[1], target[1]])
        self.links.append(link)
        self.news.tell()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carry(link, client[0], target[1], up=True))
                group.create_task(self._carry(link, target[0], client[1], up=False))
        except* OSError:
            pass
        finally:
            link.cut()

    async def _carry(self, link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, up: bool) -> None:
        while piece := await self._read(link, source):
            if up:
                link.up, link.pings = link.up + len(piece), link.pings + (len(piece) == PING_BYTES)
            else:
                link.down += len(piece)
            self.news.tell()
            if self._dies_after_up is not None and link.up > self._dies_after_up:
                self._server.close()
                self.cut()
                return
            sink.write(await self.treat(link, piece, up=up))
            await sink.drain()
        link.cut()

    async def treat(self, _link: Link, piece: bytes, *, up: bool) -> bytes:  # noqa: ARG002  # for those who override it
        """What goes on to the other end in place of a piece."""
        return piece

    async def _read(self, link: Link, source: asyncio.StreamReader) -> bytes:
        """The next piece; empty at the end, also where nothing moved either way for too long."""
        reading = asyncio.ensure_future(source.read(1 << 16))
        try:
            while True:
                before = (link.up, link.down)
                done, _ = await asyncio.wait((reading,), timeout=self._idle_seconds)
                if done:
                    return reading.result()
                if before == (link.up, link.down):
                    return b""
        finally:
            reading.cancel()


class ConnectProxy(Relay):
    """An HTTP proxy that makes tunnels for CONNECT."""

    def __init__(self, *, names: Mapping[str, str] | None = None, credentials: str = "") -> None:
        """`names`: where targets really are. `credentials`: the USER:PASSWORD it asks for."""
        super().__init__()
        self.asked: list[str] = []
        """The targets it was asked for."""
        self.answers: list[bytes] = []
        """What the next requests are answered with instead of a tunnel."""
        self._names = names or {}
        self._credentials = credentials

    @property
    def url(self) -> str:
        return f"http://{self._credentials}@{self.address}" if self._credentials else f"http://{self.address}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        assert method == "CONNECT"
        self.asked.append(target)
        self.news.tell()
        refusal = self.answers.pop(0) if self.answers else self._refusal(head)
        writer.write(refusal or b"HTTP/1.1 200 Connection established\r\n\r\n")
        await writer.drain()
        if refusal:
            writer.write_eof()
            await reader.read()
        else:
            self._targets = (self._names.get(target, target),)
            await super().serve(reader, writer)

    def _refusal(self, head: str) -> bytes:
        expected = base64.b64encode(self._credentials.encode()).decode()
        allowed = not self._credentials or f"Proxy-Authorization: Basic {expected}" in head.splitlines()
        return b"" if allowed else status(407)


def status(code: int) -> bytes:
    """An HTTP answer without content."""
    return b"HTTP/1.1 %d Because\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n" % code


@contextlib.contextmanager
def dead_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that never answers, as an unplugged machine: its queue is full, and the kernel drops what comes then."""
    with contextlib.ExitStack() as held:
        listening = held.enter_context(socket.socket())
        listening.bind((host, 0))
        listening.listen(0)
        for _ in range(3):
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
