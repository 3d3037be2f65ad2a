"""Channel settings, the protocol version, and errors across the wire."""

from typing import Any

from fedelta import errors

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
"""The protocol versions this software speaks."""

ERROR_KEY = "fedelta-error"
"""Trailing metadata key that holds the code of a `FedeltaError`."""

MAX_MESSAGE_BYTES = 4 << 20

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # gRPC's own reconnect backoff grows to two minutes, long after a coordinator is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
]
"""Options of every client channel."""


def error_from(code: str | None, status: str, detail: str) -> errors.FedeltaError:
    """The exception that the other side raised, or the nearest for a status without a code."""
    if code in errors.BY_CODE:
        return errors.BY_CODE[code](detail)
    if status in ("UNAVAILABLE", "CANCELLED"):
        return errors.UnavailableError(detail)
    if status == "DEADLINE_EXCEEDED":
        return errors.StalledError(detail)
    return errors.FedeltaError(f"{status}: {detail}")


def translate(error: Any) -> errors.FedeltaError:
    """Turns a `grpc.RpcError` (sync or aio) into the `FedeltaError` it stands for."""
    trailing = error.trailing_metadata() or ()
    code = next((value for key, value in trailing if key == ERROR_KEY), None)
    return error_from(code, error.code().name, error.details() or "")
