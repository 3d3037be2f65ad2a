"""The shape that all bulk streams share: a header message, then data."""

from collections.abc import AsyncIterator
from typing import TypeVar

from fedelta.errors import BadRequestError
from fedelta_server.uploads import next_in_time

M = TypeVar("M")


async def take_header(requests: "AsyncIterator[memoryview | M]") -> M:
    """The first message of an upload. Raises `BadRequestError` where it is not a header, or `StalledError`."""
    first = await next_in_time(requests)
    if first is None or isinstance(first, memoryview):
        raise BadRequestError("the first message of an upload must be its header")
    return first


async def take_data(requests: "AsyncIterator[memoryview | M]") -> AsyncIterator[memoryview]:
    """The messages after the header."""
    async for message in requests:
        if not isinstance(message, memoryview):
            raise BadRequestError("after the header an upload consists of data")
        yield message


def check_digest(digest: bytes) -> bytes:
    """A BLAKE3-256 digest from a request."""
    if len(digest) != 32:
        raise BadRequestError(f"a digest has 32 bytes, got {len(digest)}")
    return digest
