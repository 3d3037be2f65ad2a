"""What can happen to a chunk of a stream."""

from collections.abc import Sequence


def garbled(chunk: bytes, act: str | None) -> Sequence[bytes]:
    """The chunks that arrive in place of one."""
    match act:
        case "flip":
            return [flipped(chunk)]
        case "truncate":
            return [chunk[: len(chunk) // 2]]
        case "double":
            return [chunk, chunk]
        case "drop":
            return []
    return [chunk]


def flipped(data: bytes) -> bytes:
    """With one bit in the middle turned."""
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
