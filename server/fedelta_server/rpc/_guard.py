"""What every handler has in common: a `FedeltaError` becomes a status, anything else a logged internal error."""

import functools
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

import grpc
from grpc import aio

from fedelta._logs import about
from fedelta.errors import FedeltaError
from fedelta.wire.channel import trailer
from fedelta_server._tasks import Calls
from fedelta_server.rpc._subject import Subject

_log = logging.getLogger(__name__)

# gRPC's classes are generic in their stubs only.
Context: TypeAlias = "aio.ServicerContext[Any, Any]"


class Servicer(Protocol):
    """What the handlers of a service belong to."""

    def subject(self, request: Any) -> Subject:
        """What log lines say that the call is about."""
        ...

    @property
    def calls(self) -> Calls:
        """Where calls under way are counted."""
        ...


S = TypeVar("S", bound=Servicer)
Q = TypeVar("Q")
R = TypeVar("R")


def guarded(method: Callable[[S, Q, Context], Awaitable[R]]) -> Callable[[S, Q, Context], Awaitable[R]]:
    """For handlers that return one response."""

    @functools.wraps(method)
    async def call(servicer: S, request: Q, context: Context) -> R:
        with servicer.calls.one(), about(**servicer.subject(request)):
            try:
                return await method(servicer, request, context)
            except Exception as error:
                await _abort(method.__name__, context, error)

    return call


def guarded_stream(
    method: Callable[[S, Q, Context], AsyncGenerator[R, None]],
) -> Callable[[S, Q, Context], AsyncGenerator[R, None]]:
    """For handlers that return a stream."""

    @functools.wraps(method)
    async def call(servicer: S, request: Q, context: Context) -> AsyncGenerator[R, None]:
        with servicer.calls.one():
            try:
                # Not about anything: a generator may be closed in another context than it was begun in.
                async with aclosing(method(servicer, request, context)) as responses:
                    async for response in responses:
                        yield response
            except Exception as error:
                await _abort(method.__name__, context, error)

    return call


async def _abort(call: str, context: Context, error: Exception) -> NoReturn:
    if isinstance(error, FedeltaError):
        _log.debug("%s refused: %s: %s", call, error.code, error.message)
        context.set_trailing_metadata(trailer(error))
        await context.abort(grpc.StatusCode[error.status], error.message)
    if isinstance(error, aio.AbortError):
        raise error
    _log.error("%s failed", call, exc_info=error)
    await context.abort(grpc.StatusCode.INTERNAL, "internal error; the coordinator's log says more")
