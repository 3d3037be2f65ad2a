"""Models down and updates up: streamed in chunks, resumed where they broke off."""

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc.aio
from blake3 import blake3

from fedelta.errors import DigestMismatchError, FedeltaError, StalledError, UnavailableError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client.pace import Pace
from fedelta_client.session import Session

STALL_SECONDS = 60.0
"""A stream on which nothing moves for this long is given up and tried again."""
VERDICT_SECONDS = 600.0
"""How long the coordinator may take to sync and check a file that was sent."""
WHOLE_TRIES = 3
"""How often a file is sent or fetched from the start because it arrived damaged."""

log = logging.getLogger("fedelta.client")

T = TypeVar("T")
# In quotes: only the stubs make these classes generic.
FetchCall: TypeAlias = "grpc.aio.UnaryStreamCall[pb.FetchModelRequest, pb.FetchModelResponse | memoryview]"
PushCall: TypeAlias = "grpc.aio.StreamUnaryCall[pb.PushUpdateRequest | bytes, pb.PushUpdateResponse]"


class TransferError(FedeltaError):
    """A file does not get across whole."""

    code = "transfer"


async def fetch_file(
    session: Session, assignment: pb.Assignment, path: Path, pace: Pace, *, shared: bool = False
) -> None:
    """Streams the assignment's model, or what its plan shares, into the file, over what is there, at that pace.

    Raises `TransferError` where it arrives damaged again and again, `AssignmentEndedError`, `OSError`.
    """
    with _opened(path, os.O_RDWR | os.O_CREAT) as fd:
        for _ in range(WHOLE_TRIES):
            download = _Download(session, assignment, fd, pace, shared=shared)
            with _told(f"fetching {download.what}", download.wanted.length):
                await session.persist(download.attempt)
            if download.intact:
                os.ftruncate(fd, download.wanted.length)
                return
            log.warning("%s arrived damaged; fetching it again", download.what)
    raise TransferError(f"{download.what} arrived damaged {WHOLE_TRIES} times")


class _Download:
    """A file on its way here."""

    def __init__(self, session: Session, assignment: pb.Assignment, fd: int, pace: Pace, *, shared: bool) -> None:
        self._session = session
        self._assignment_id = assignment.id
        self._shared = shared
        self.wanted = assignment.shared if shared else assignment.model
        self.what = "the shared state" if shared else "the model"
        self._fd = fd
        self._pace = pace
        self._held = 0
        self._hash = blake3()

    @property
    def intact(self) -> bool:
        """Whether the file has the announced digest."""
        return self._hash.digest() == self.wanted.digest

    async def attempt(self) -> None:
        """One stream, from where the last one broke off to the end."""
        request = pb.FetchModelRequest(
            session_id=self._session.id, assignment_id=self._assignment_id, offset=self._held, shared=self._shared
        )
        call = self._session.fetch(request)
        try:
            self._check(await _read(call))
            while (chunk := await _read(call)) is not None:
                await self._pace.spend(self._store(chunk))
        except grpc.aio.AioRpcError as error:
            raise self._session.translate(error) from None
        finally:
            call.cancel()
        if self._held < self.wanted.length:
            raise UnavailableError("the stream ended early")

    def _check(self, header: "pb.FetchModelResponse | memoryview | None") -> None:
        expected = pb.ModelHeader(model=self.wanted, offset=self._held)
        if not isinstance(header, pb.FetchModelResponse) or header.header != expected:
            raise TransferError(f"the coordinator sent another file than the assignment names as {self.what}")

    def _store(self, chunk: "pb.FetchModelResponse | memoryview") -> int:
        """Writes what came; returns how much that was."""
        if not isinstance(chunk, memoryview) or self._held + len(chunk) > self.wanted.length:
            raise TransferError(f"the coordinator sent more than {self.what}")
        _write(self._fd, chunk, self._held)
        self._hash.update(chunk)
        self._held += len(chunk)
        return len(chunk)


async def _read(call: FetchCall) -> "pb.FetchModelResponse | memoryview | None":
    """The next message, None at the end."""
    message = await _within(STALL_SECONDS, call.read())
    return message if isinstance(message, pb.FetchModelResponse | memoryview) else None


@dataclass(frozen=True, kw_only=True)
class Update:
    """A file to push: an update, or an initial model."""

    assignment_id: str
    path: Path
    digest: bytes
    length: int
    examples: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    facts: Mapping[str, float] = field(default_factory=dict)
    begun: bool = False
    """Whether some of it may have been sent before, by a process that was killed."""


async def push_update(session: Session, update: Update, pace: Pace) -> None:
    """Sends the file, at that pace, until the coordinator has it for good.

    Raises the `PayloadError` with which the coordinator refuses it, `TransferError` where it arrives damaged again
    and again, `AssignmentEndedError`, `OSError`.
    """
    with _opened(update.path, os.O_RDONLY) as fd:
        for _ in range(WHOLE_TRIES):
            try:
                with _told("sending the update", update.length):
                    return await session.persist(_Upload(session, update, fd, pace).attempt)
            except DigestMismatchError:
                log.warning("the update arrived damaged; sending it again")
    raise TransferError(f"the update arrived damaged {WHOLE_TRIES} times")


class _Upload:
    """An update on its way out of a file."""

    def __init__(self, session: Session, update: Update, fd: int, pace: Pace) -> None:
        self._session = session
        self._update = update
        self._fd = fd
        self._pace = pace
        self._tried = update.begun

    async def attempt(self) -> None:
        """One stream. The very first goes from the start without asking, later ones from what the coordinator holds."""
        offset = await self._ask() if self._tried else 0
        self._tried = True
        if offset is not None:
            await self._send(offset)

    async def _ask(self) -> int | None:
        """Where to go on. None: it was accepted."""
        update = self._update
        request = pb.GetUploadStatusRequest(assignment_id=update.assignment_id, digest=update.digest)
        status = await self._session.call(self._session.stub.GetUploadStatus, request)
        return None if status.accepted else status.bytes_held

    async def _send(self, offset: int) -> None:
        call = self._session.push()
        try:
            await self._write(call, offset)
            await _within(VERDICT_SECONDS, call)
        except grpc.aio.AioRpcError as error:
            raise self._session.translate(error) from None
        finally:
            call.cancel()

    async def _write(self, call: PushCall, offset: int) -> None:
        """Writes the stream, or as much of it as the coordinator wants: its verdict may come before the end."""
        try:
            await _within(STALL_SECONDS, call.write(self._header(offset)))
            for chunk in _chunks(self._fd, offset, self._update.length, self._pace.chunk_bytes):
                await self._pace.spend(len(chunk))
                await _within(STALL_SECONDS, call.write(chunk))
            await call.done_writing()
        except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
            log.debug("the coordinator ended the upload early")

    def _header(self, offset: int) -> pb.PushUpdateRequest:
        update = self._update
        header = pb.UpdateHeader(
            session_id=self._session.id,
            assignment_id=update.assignment_id,
            digest=update.digest,
            length=update.length,
            offset=offset,
            examples=update.examples,
            metrics=update.metrics,
            train_seconds=update.seconds,
            facts=update.facts,
        )
        return pb.PushUpdateRequest(header=header)


async def _within(seconds: float, step: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await step
    except TimeoutError:
        raise StalledError(f"nothing moved for {seconds:g} s") from None


@contextmanager
def _told(doing: str, length: int) -> Iterator[None]:
    """Logs the beginning of a transfer, and how long it took."""
    began = time.monotonic()
    log.debug("%s, %d bytes", doing, length)
    yield
    log.debug("%s took %.2f s", doing, time.monotonic() - began)


@contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _write(fd: int, view: memoryview, at: int) -> None:
    while view:
        done = os.pwrite(fd, view, at)
        view, at = view[done:], at + done


def _chunks(fd: int, start: int, stop: int, most: int) -> Iterator[bytes]:
    while start < stop:
        chunk = os.pread(fd, min(most, stop - start), start)
        if not chunk:
            raise OSError("the update file is shorter than it was")
        yield chunk
        start += len(chunk)
