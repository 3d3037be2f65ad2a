"""The client's session with the coordinator: calls that outlive outages and restarts."""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar

import grpc
import grpc.aio

import fedelta
from fedelta import errors
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.v1 import coordinator_pb2_grpc
from fedelta.wire import bulk, channel
from fedelta.wire.proxy import Proxy
from fedelta.wire.route import KEEPALIVE_SECONDS, RECONNECT_SECONDS, Route
from fedelta_client.ledger import LedgerError
from fedelta_client.retry import delays, jittered, returns

CALL_SECONDS = 30.0
"""Deadline of an ordinary call."""
PARTING_SECONDS = 1.0
"""Deadline of a call on the way out."""

OUTAGES = (errors.UnavailableError, errors.StalledError)
PASSING = (*OUTAGES, errors.BusyError, errors.StorageError, errors.SupersededError)
"""What may be gone at the next try."""
FATAL = (errors.NameInUseError, errors.ProtocolMismatchError, LedgerError)
"""What ends the client."""

log = logging.getLogger("fedelta.client")

T = TypeVar("T")
# In quotes: only the stubs make these classes generic.
Push: TypeAlias = "grpc.aio.StreamUnaryMultiCallable[pb.PushUpdateRequest | bytes, pb.PushUpdateResponse]"
Fetch: TypeAlias = "grpc.aio.UnaryStreamMultiCallable[pb.FetchModelRequest, pb.FetchModelResponse | memoryview]"


class Request(Protocol):
    """Any request of the service but Register: they all name the session."""

    session_id: str


class Session:
    """One client name at one coordinator, from the first Register to Leave. An async context manager.

    The id stays the same, so the coordinator knows the client again after a restart of either's connection or of the
    coordinator itself; see `takeover` for one of the client.
    """

    def __init__(
        self,
        target: str,
        name: str,
        learners: Iterable[str],
        *,
        session_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        evaluates_only: bool = False,
        proxy: Proxy | None = None,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
        noted: Callable[[pb.RegisterRequest], AbstractContextManager[object]] = lambda _request: nullcontext(),
    ) -> None:
        """`session_id`: of the session to take over, if there is one. `noted`: what registrations are made within."""
        self.target = target
        self.name = name
        self.id = session_id or secrets.token_hex(16)
        self.learners = tuple(learners)
        """What the client offers. A change counts from the next `register` on."""
        self._labels = dict(labels or {})
        self._evaluates_only = evaluates_only
        self._noted = noted
        self._route = Route(target=target, proxy=proxy, keepalive_seconds=keepalive_seconds)
        self._outage: set[str] | None = None
        """While the coordinator is away: what has been said of it."""
        self._reconnect_within = 0.0
        """Within how many seconds all clients are to be back that lost the coordinator together."""
        self.liveness_seconds = 15.0
        """Silent for longer than this, the client counts as gone. The coordinator says so when it registers."""

    async def __aenter__(self) -> Self:
        self._open()
        return self

    def _open(self) -> None:
        self._channel = channel.connect_aio(self._route)
        self.stub = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel)
        self.push: Push = self._channel.stream_unary(
            "/fedelta.v1.CoordinatorService/PushUpdate",
            request_serializer=bulk.serialize,
            response_deserializer=pb.PushUpdateResponse.FromString,
        )
        self.fetch: Fetch = self._channel.unary_stream(
            "/fedelta.v1.CoordinatorService/FetchModel",
            request_serializer=pb.FetchModelRequest.SerializeToString,
            response_deserializer=bulk.fetch_model,
        )

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def register(self) -> pb.RegisterResponse:
        """Opens the session, or opens it again; waits out an outage.

        Raises `NameInUseError` where another process holds the name, `ProtocolMismatchError`.
        """
        request = pb.RegisterRequest(
            client_name=self.name,
            session_id=self.id,
            protocol_min=channel.PROTOCOL_MIN,
            protocol_max=channel.PROTOCOL_MAX,
            software_version=fedelta.__version__,
            learners=self.learners,
            labels=self._labels,
            evaluates_only=self._evaluates_only,
        )
        with self._noted(request):
            answer = await self.persist(lambda: self._once(self.stub.Register, request, CALL_SECONDS))
        self._reconnect_within = answer.reconnect_within.ToTimedelta().total_seconds()
        self.liveness_seconds = answer.liveness.ToTimedelta().total_seconds() or self.liveness_seconds
        return answer

    async def call(self, method: Callable[..., Awaitable[T]], request: Request, *, seconds: float = CALL_SECONDS) -> T:
        """Makes a call until it is answered. Raises the `FedeltaError` of an answer that trying again won't change."""
        request.session_id = self.id
        return await self.persist(lambda: self._once(method, request, seconds))

    async def adapt(self, reconnect_within: float) -> None:
        """From now on, all that lose the coordinator are to be back within so many seconds. To be called between calls.

        A channel connects by itself, and keeps the pauses it was made with: for much longer or shorter ones another
        is made.
        """
        self._reconnect_within = reconnect_within
        known, wanted = self._route.reconnect_seconds, max(RECONNECT_SECONDS, reconnect_within)
        if not known / 2 <= wanted <= known * 2:
            former, self._route = self._channel, replace(self._route, reconnect_seconds=wanted)
            self._open()
            await former.close()

    async def part(self, method: Callable[..., Awaitable[Any]], request: Request) -> bool:
        """Makes a call once, for the way out. Returns whether it arrived."""
        request.session_id = self.id
        try:
            await self._once(method, request, PARTING_SECONDS)
        except errors.FedeltaError as error:
            log.debug("the coordinator was not told: %s", error)
            return False
        return True

    async def persist(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Tries until it succeeds: registers again where the session is gone, waits out what passes."""
        absences, pauses, lapses = returns(self._reconnect_within), delays(), delays()
        while True:
            try:
                result = await attempt()
            except errors.UnknownSessionError:
                log.info("the coordinator does not know this session; registering again")
                await self.register()
                # One that forgets at once is not to be flooded; how long it was away before does not matter.
                await asyncio.sleep(next(lapses))
            except PASSING as error:
                self._note(error)
                pause = next(absences if isinstance(error, OUTAGES) else pauses)
                pause = max(pause, jittered(error.retry_seconds or 0.0))
                log.debug("%s; the next try is in %.1f s", error.code, pause)
                await asyncio.sleep(pause)
            else:
                self._note(None)
                return result

    async def _once(self, method: Callable[..., Awaitable[T]], request: object, seconds: float) -> T:
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as error:
            raise self.translate(error) from None

    def translate(self, error: grpc.aio.AioRpcError) -> errors.FedeltaError:
        """The error that the coordinator raised, or what is wrong with the connection to it."""
        return channel.translate(error, self._route)

    def _note(self, error: errors.FedeltaError | None) -> None:
        """Says when the coordinator goes, each reason once, and when it is back; not at each try."""
        if isinstance(error, OUTAGES):
            self._note_outage(error)
            return
        if self._outage:
            log.info("coordinator %s answers again", self.target)
        self._outage = None

    def _note_outage(self, error: errors.FedeltaError) -> None:
        # A connection that broke is made anew: that concerns nobody unless it goes on.
        if self._outage is None and type(error) is errors.UnavailableError:
            log.debug("%s; connecting again", error)
            self._outage = set()
            return
        told, reason = self._outage or set(), str(error)
        if reason not in told:
            log.warning("waiting for the coordinator: %s", reason)
        self._outage = told | {reason}
