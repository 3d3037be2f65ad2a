"""Channels, the protocol version, and errors across the wire."""

from typing import TYPE_CHECKING, Any

from fedelta import errors
from fedelta.wire.diagnosis import diagnose
from fedelta.wire.route import Route

if TYPE_CHECKING:
    import grpc
    import grpc.aio

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1
"""The protocol versions this software speaks."""

MOST_RETRY_SECONDS = 3600.0
"""A hint to wait for longer is not followed."""

_BROKEN_WHILE_WRITING = ("INTERNAL", "Internal error from Core")
"""What grpc.aio makes of a connection that breaks while it hands over a message."""

ERROR_KEY = "fedelta-error"
"""Trailing metadata key that holds the code of a `FedeltaError`."""

RETRY_KEY = "fedelta-retry-seconds"
"""Trailing metadata key that holds its `retry_seconds`, as a decimal number, where it has any."""


def connect(route: Route) -> "grpc.Channel":
    """A channel for threads. It opens no connection before the first call."""
    # Not at the top: `fedelta --version` asks this module for the protocol's version and needs no grpc.
    import grpc

    return grpc.insecure_channel(route.first_hop, options=route.options())


def connect_aio(route: Route) -> "grpc.aio.Channel":
    """The same for asyncio."""
    import grpc.aio

    return grpc.aio.insecure_channel(route.first_hop, options=route.options())


def trailer(error: errors.FedeltaError) -> tuple[tuple[str, str], ...]:
    """The trailing metadata that says which error it is, for `translate` on the other side."""
    code = (ERROR_KEY, error.code)
    return (code,) if error.retry_seconds is None else (code, (RETRY_KEY, f"{error.retry_seconds:.3f}"))


def translate(error: Any, route: Route | None = None) -> errors.FedeltaError:
    """Turns a `grpc.RpcError` (sync or aio) into the `FedeltaError` it stands for.

    That is what the other side raised, or the nearest for a status without a code. With the route, an error of the
    connection says in our words what is wrong and what helps.
    """
    trailing = error.trailing_metadata() or ()
    code = next((value for key, value in trailing if key == ERROR_KEY), None)
    status, detail = error.code().name, error.details() or ""
    if code in errors.BY_CODE:
        return errors.BY_CODE[code](detail, retry_seconds=_seconds(dict(trailing).get(RETRY_KEY)))
    return (route and diagnose(route, status, detail)) or _nearest(status, detail)


def _seconds(written: Any) -> float | None:
    """What another machine wrote, if it is a number to wait by."""
    try:
        found = float(written)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found <= MOST_RETRY_SECONDS else None


def _nearest(status: str, detail: str) -> errors.FedeltaError:
    if status in ("UNAVAILABLE", "CANCELLED") or (status, detail) == _BROKEN_WHILE_WRITING:
        return errors.UnavailableError(detail)
    if status == "DEADLINE_EXCEEDED":
        return errors.StalledError(detail)
    return errors.FedeltaError(f"{status}: {detail}")
