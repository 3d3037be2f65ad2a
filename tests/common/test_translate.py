"""What a status of gRPC means in our words."""

import pytest
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata

from fedelta.errors import FedeltaError, StalledError, UnavailableError
from fedelta.wire.channel import translate


@pytest.mark.parametrize(
    ("status", "detail", "means"),
    [
        (StatusCode.UNAVAILABLE, "Socket closed", UnavailableError),
        (StatusCode.CANCELLED, "", UnavailableError),
        # A connection that breaks while a message is handed over.
        (StatusCode.INTERNAL, "Internal error from Core", UnavailableError),
        (StatusCode.INTERNAL, "internal error; the coordinator's log says more", FedeltaError),
        (StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", StalledError),
    ],
)
def test_a_status_without_a_code_is_the_nearest_error(
    status: StatusCode, detail: str, means: type[FedeltaError]
) -> None:
    error = AioRpcError(status, Metadata(), Metadata(), details=detail)
    assert type(translate(error)) is means
