"""Serializers for the bulk streams.

protobuf's Python runtime copies a `bytes` field twice on each side. The four bulk messages have their payload
in field 2, so here a data message is made by one concatenation and taken apart by a view, byte-compatible
with the generated class; everything else goes to the generated class.

In Python a message of a bulk stream is therefore either data (sent as `bytes`, received as a `memoryview`) or the
generated message (header).
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

from fedelta.v1 import admin_pb2, coordinator_pb2

CHUNK_BYTES = 2 << 20
"""Payload bytes a data message carries: 1 to 4 MiB is fastest, and gRPC refuses more than 4 MiB by default."""

_DATA_TAG = 0x12  # field 2, length-delimited
_MAX_VARINT_BYTES = 10


class _Message(Protocol):
    def SerializeToString(self) -> bytes: ...  # noqa: N802  protobuf's own name


M = TypeVar("M", bound=_Message)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(raw: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(raw[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    return -1, at


def _data_view(raw: bytes) -> memoryview | None:
    """The payload, where the message is exactly one data field in its ordinary encoding."""
    if not raw or raw[0] != _DATA_TAG:
        return None
    length, start = _read_varint(raw, 1)
    return memoryview(raw)[start:] if length == len(raw) - start else None


def serialize(message: "bytes | _Message") -> bytes:
    """Serializes a data chunk, or a header message."""
    if isinstance(message, bytes):
        return b"".join((b"\x12", _varint(len(message)), message))
    return message.SerializeToString()


def deserializer(parse: Callable[[bytes], M]) -> Callable[[bytes], "memoryview | M"]:
    """A deserializer that returns data as a view and leaves the rest to `parse`."""

    def deserialize(raw: bytes) -> "memoryview | M":
        data = _data_view(raw)
        if data is not None:
            return data
        message = parse(raw)
        # Another implementation may encode data in a legal but unusual way (unknown fields, long varints).
        part = getattr(message, "data", b"")
        return memoryview(part) if isinstance(part, bytes) and part else message

    return deserialize


push_update = deserializer(coordinator_pb2.PushUpdateRequest.FromString)
fetch_model = deserializer(coordinator_pb2.FetchModelResponse.FromString)
upload_model = deserializer(admin_pb2.UploadModelRequest.FromString)
download_model = deserializer(admin_pb2.DownloadModelResponse.FromString)
