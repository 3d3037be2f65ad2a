"""The hand-made serializers of the bulk streams, held equal to the generated classes."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from fedelta.v1 import admin_pb2, coordinator_pb2
from fedelta.wire import bulk

STREAMS = [
    (coordinator_pb2.PushUpdateRequest, bulk.push_update),
    (coordinator_pb2.FetchModelResponse, bulk.fetch_model),
    (admin_pb2.UploadModelRequest, bulk.upload_model),
    (admin_pb2.DownloadModelResponse, bulk.download_model),
]
streams = pytest.mark.parametrize(("message", "parse"), STREAMS, ids=lambda value: getattr(value, "__name__", ""))


def varint(value: int, padding: int = 0) -> bytes:
    """As protobuf's encoding guide describes it, and padded with `padding` empty groups."""
    groups = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)] + [0] * padding
    return bytes(group | 0x80 for group in groups[:-1]) + bytes(groups[-1:])


@streams
@given(data=st.binary())
@example(data=b"a" * 127)
@example(data=b"a" * 128)
@example(data=b"a" * 16383)
@example(data=b"a" * 16384)
@example(data=bytes(bulk.CHUNK_BYTES))
def test_data_is_what_the_generated_class_makes(message: Any, parse: Callable[[bytes], Any], data: bytes) -> None:
    raw = bulk.serialize(data)

    assert raw == message(data=data).SerializeToString()
    assert message.FromString(raw).data == data
    assert parse(raw) == data


@streams
def test_a_header_stays_a_message(message: Any, parse: Callable[[bytes], Any]) -> None:
    header = message()
    header.header.SetInParent()

    raw = bulk.serialize(header)

    assert raw == header.SerializeToString()
    assert parse(raw) == header
    assert parse(b"") == message()


@streams
@given(data=st.binary(min_size=1, max_size=300), padding=st.integers(0, 3))
def test_other_legal_encodings_are_understood(
    message: Any, parse: Callable[[bytes], Any], data: bytes, padding: int
) -> None:
    padded = b"\x12" + varint(len(data), padding) + data
    unknown = bytes([15 << 3]) + varint(7)
    for raw in (padded, padded + unknown, unknown + padded):
        assert message.FromString(raw).data == data
        assert parse(raw) == data


@streams
@given(data=st.binary(min_size=1, max_size=50))
def test_the_last_part_of_a_message_wins(message: Any, parse: Callable[[bytes], Any], data: bytes) -> None:
    header = message()
    header.header.SetInParent()

    assert parse(bulk.serialize(data) + header.SerializeToString()) == header
    assert parse(header.SerializeToString() + bulk.serialize(data)) == data
    assert parse(bulk.serialize(b"first") + bulk.serialize(data)) == data


@streams
@given(raw=st.binary(max_size=60))
@example(raw=b"\x12")
@example(raw=b"\x12\x05abc")
@example(raw=b"\x12" + b"\xff" * 12)
def test_anything_is_read_as_the_generated_class_reads_it(
    message: Any, parse: Callable[[bytes], Any], raw: bytes
) -> None:
    try:
        wanted = message.FromString(raw)
    except DecodeError:
        with pytest.raises(DecodeError):
            parse(raw)
        return
    found = parse(raw)
    assert (found if isinstance(found, memoryview) else found.data) == wanted.data
