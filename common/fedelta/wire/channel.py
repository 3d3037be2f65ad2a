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

ERROR_KEY = "fedelta-error"
"""Trailing metadata key that holds the code of a `FedeltaError`."""


def connect(route: Route) -> "grpc.Channel":
    """A channel for threads. It opens no connection before the first call."""
    # Not at the top: `fedelta --version` asks this module for the protocol's version and needs no grpc.
    import grpc

    return grpc.insecure_channel(route.first_hop, options=route.options())


def connect_aio(route: Route) -> "grpc.aio.Channel":
    """The same for asyncio."""
    import grpc.aio

    return grpc.aio.insecure_channel(route.first_hop, options=route.options())


def translate(error: Any, route: Route | None = None) -> errors.FedeltaError:
    """Turns a `grpc.RpcError` (sync or aio) into the `FedeltaError` it stands for.

    That is what the other side raised, or the nearest for a status without a code. With the route, an error of the
    connection says in our words what is wrong and what helps.
    """
    trailing = error.trailing_metadata() or ()
    code = next((value for key, value in trailing if key == ERROR_KEY), None)
    status, detail = error.code().name, error.details() or ""
    if code in errors.BY_CODE:
        return errors.BY_CODE[code](detail)
    return (route and diagnose(route, status, detail)) or _nearest(status, detail)


def _nearest(status: str, detail: str) -> errors.FedeltaError:
    if status in ("UNAVAILABLE", "CANCELLED"):
        return errors.UnavailableError(detail)
    if status == "DEADLINE_EXCEEDED":
        return errors.StalledError(detail)
    return errors.FedeltaError(f"{status}: {detail}")
