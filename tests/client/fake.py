"""A coordinator that does what a test tells it, on a real port."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self

import grpc
import grpc.aio
from blake3 import blake3
from google.protobuf.duration_pb2 import Duration

from fedelta.errors import AssignmentEndedError, FedeltaError, UnavailableError, UnknownSessionError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.v1 import coordinator_pb2_grpc
from fedelta.wire.channel import ERROR_KEY

PATIENCE_SECONDS = 20.0
CHUNK = 1 << 16

Context = Any  # grpc.aio.ServicerContext, whose stub wants type arguments that it does not take at run time


@dataclass
class Upload:
    """One PushUpdate stream: its header and how many bytes came, and at most how many at once."""

    header: pb.UpdateHeader
    received: int = 0
    largest: int = 0


@dataclass
class FakeCoordinator(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Hands out what `assign` queued, keeps what it is sent, fails when told to."""

    port: int = 0
    refusals: dict[str, list[FedeltaError]] = field(default_factory=lambda: defaultdict(list))
    """By method: what the next calls are answered with."""
    cut_fetch_at: list[int] = field(default_factory=list)
    """After so many bytes of the file the next FetchModel streams break."""
    cut_push_at: list[int] = field(default_factory=list)
    """After so many bytes held the next PushUpdate streams break."""
    keep_at_cut: int | None = None
    """How many bytes a PushUpdate stream that breaks leaves behind; None: all that came."""
    accept_at_cut: bool = False
    """Whether a PushUpdate stream that breaks was accepted all the same: only its response is lost."""
    hang_push: bool = False
    """Whether whole updates are never answered."""
    stalls: int = 0
    """How many FetchModel streams send nothing after the header."""
    damage: list[int] = field(default_factory=list)
    """Position of a byte that the next FetchModel streams send wrong."""
    cancel: dict[str, str] = field(default_factory=dict)
    """By assignment: the reason with which RenewAssignment says to stop."""
    fates: dict[str, bool] = field(default_factory=dict)
    """By assignment: whether its update was folded, for a client that asks."""
    liveness_seconds: int = 15
    registered: list[pb.RegisterRequest] = field(default_factory=list)
    fetched: list[tuple[int, int]] = field(default_factory=list)
    """Offset and bytes sent of each FetchModel stream for a model."""
    fetched_shared: list[tuple[int, int]] = field(default_factory=list)
    """The same of those for what a plan shares."""
    uploads: list[Upload] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[pb.Assignment] = asyncio.Queue()
        self._seen: dict[str, asyncio.Queue[Any]] = defaultdict(asyncio.Queue)
        self._models: dict[str, bytes] = {}
        self._shared: dict[str, bytes] = {}
        self._held: dict[str, bytearray] = defaultdict(bytearray)
        self._sessions: set[str] = set()
        self._unheard: dict[str, pb.Assignment] = {}
        self._polls: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves on `port`; zero takes a free one."""
        self._stopping.clear()
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Stops serving and forgets sessions, as a coordinator that is killed does."""
        self._stopping.set()
        self._sessions.clear()
        await self._server.stop(None)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def assign(
        self, kind: "pb.AssignmentKind.ValueType", model: bytes = b"", shared: bytes = b"", **fields: Any
    ) -> pb.Assignment:
        """Queues an assignment. `model` and `shared`: what is in its files."""
        number = len(self._models) + 1
        given = {"id": f"a{number}", "job_id": "job-1", "round": number, "seed": 7, "config_json": "{}", **fields}
        lease = Duration(nanos=150_000_000)
        assignment = pb.Assignment(kind=kind, lease=lease, **given)
        if model:
            assignment.model.CopyFrom(_ref(model))
        if shared:
            assignment.shared.CopyFrom(_ref(shared))
        self._models[assignment.id] = model
        self._shared[assignment.id] = shared
        self._queue.put_nowait(assignment)
        return assignment

    async def next(self, method: str) -> Any:
        """What the next call of the method brought."""
        return await asyncio.wait_for(self._seen[method].get(), PATIENCE_SECONDS)

    async def update(self) -> tuple[pb.UpdateHeader, bytes]:
        """The next whole update."""
        header = await self.next("PushUpdate")
        return header, bytes(self._held[header.assignment_id])

    async def _refuse(self, context: Context, error: FedeltaError) -> NoReturn:
        metadata = ((ERROR_KEY, error.code),)
        await context.abort(grpc.StatusCode[error.status], error.message, trailing_metadata=metadata)
        raise AssertionError("abort raises")

    async def _check(self, method: str, request: Any, context: Context) -> None:
        if self.refusals[method]:
            await self._refuse(context, self.refusals[method].pop(0))
        if method != "Register" and request.session_id not in self._sessions:
            await self._refuse(context, UnknownSessionError("no such session"))
        self._unheard.pop(getattr(request, "assignment_id", ""), None)

    def _forget_the_dead(self) -> None:
        """A process that was killed may hold a poll on a connection not known to be dead, and take work with it."""
        for poll in self._polls:
            poll.cancel()
        for assignment in self._unheard.values():
            self._queue.put_nowait(assignment)
        self._unheard.clear()

    async def Register(self, request: pb.RegisterRequest, context: Context) -> pb.RegisterResponse:
        self.registered.append(request)
        await self._check("Register", request, context)
        self._forget_the_dead()
        self._sessions.add(request.session_id)
        self._seen["Register"].put_nowait(request)
        return pb.RegisterResponse(protocol=1, liveness=Duration(seconds=self.liveness_seconds))

    async def NextAssignment(self, request: pb.NextAssignmentRequest, context: Context) -> pb.NextAssignmentResponse:
        await self._check("NextAssignment", request, context)
        self._seen["NextAssignment"].put_nowait(request)
        found, stopping = asyncio.create_task(self._queue.get()), asyncio.create_task(self._stopping.wait())
        self._polls.add(found)
        try:
            await asyncio.wait((found, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._polls.discard(found)
            found.cancel()
            stopping.cancel()
        if not found.done() or found.cancelled():
            await self._refuse(context, UnavailableError("shutting down"))
        assignment = self._unheard[found.result().id] = found.result()
        assignment.learner = assignment.learner or self.registered[-1].learners[0]
        known = [each for each in request.unsettled_assignment_ids if each in self.fates]
        settled = [pb.Settlement(assignment_id=each, folded=self.fates[each]) for each in known]
        return pb.NextAssignmentResponse(assignment=assignment, settled=settled)

    async def RenewAssignment(self, request: pb.RenewAssignmentRequest, context: Context) -> pb.RenewAssignmentResponse:
        await self._check("RenewAssignment", request, context)
        self._seen["RenewAssignment"].put_nowait(request)
        reason = self.cancel.get(request.assignment_id)
        if reason is not None:
            return pb.RenewAssignmentResponse(directive=pb.DIRECTIVE_CANCEL, reason=reason)
        return pb.RenewAssignmentResponse(directive=pb.DIRECTIVE_CONTINUE, lease=Duration(nanos=150_000_000))

    async def FetchModel(self, request: pb.FetchModelRequest, context: Context) -> AsyncIterator[pb.FetchModelResponse]:
        await self._check("FetchModel", request, context)
        model = (self._shared if request.shared else self._models)[request.assignment_id]
        yield pb.FetchModelResponse(header=pb.ModelHeader(model=_ref(model), offset=request.offset))
        if self.stalls:
            self.stalls -= 1
            await self._stopping.wait()
        stop = self.cut_fetch_at.pop(0) if self.cut_fetch_at else len(model)
        sent = bytearray(model)
        if self.damage:
            sent[self.damage.pop(0)] ^= 0xFF
        for at in range(request.offset, stop, CHUNK):
            yield pb.FetchModelResponse(data=bytes(sent[at : min(at + CHUNK, stop)]))
        fetched = self.fetched_shared if request.shared else self.fetched
        fetched.append((request.offset, max(0, stop - request.offset)))
        if stop < len(model):
            await self._refuse(context, UnavailableError("cut off"))

    async def PushUpdate(
        self, request_iterator: AsyncIterator[pb.PushUpdateRequest], context: Context
    ) -> pb.PushUpdateResponse:
        header = (await anext(request_iterator)).header
        await self._check("PushUpdate", header, context)
        upload = Upload(header)
        self.uploads.append(upload)
        held = self._held[header.assignment_id]
        del held[header.offset :]
        stop = self.cut_push_at.pop(0) if self.cut_push_at else None
        async for part in request_iterator:
            upload.received += len(part.data)
            upload.largest = max(upload.largest, len(part.data))
            held += part.data
            if stop is not None and len(held) >= stop:
                del held[len(held) if self.keep_at_cut is None else self.keep_at_cut :]
                await self._refuse(context, UnavailableError("cut off"))
        self._seen["PushUpdate"].put_nowait(header)
        if self.hang_push:
            await self._stopping.wait()
        return pb.PushUpdateResponse()

    async def GetUploadStatus(self, request: pb.GetUploadStatusRequest, context: Context) -> pb.GetUploadStatusResponse:
        await self._check("GetUploadStatus", request, context)
        self._seen["GetUploadStatus"].put_nowait(request)
        held = len(self._held[request.assignment_id])
        return pb.GetUploadStatusResponse(bytes_held=held, accepted=self.accept_at_cut)

    async def ReportEvaluation(
        self, request: pb.ReportEvaluationRequest, context: Context
    ) -> pb.ReportEvaluationResponse:
        await self._check("ReportEvaluation", request, context)
        self._seen["ReportEvaluation"].put_nowait(request)
        return pb.ReportEvaluationResponse()

    async def ReportFailure(self, request: pb.ReportFailureRequest, context: Context) -> pb.ReportFailureResponse:
        await self._check("ReportFailure", request, context)
        self._seen["ReportFailure"].put_nowait(request)
        return pb.ReportFailureResponse()

    async def Leave(self, request: pb.LeaveRequest, context: Context) -> pb.LeaveResponse:
        await self._check("Leave", request, context)
        self._seen["Leave"].put_nowait(request)
        return pb.LeaveResponse()


def _ref(content: bytes) -> pb.ModelRef:
    return pb.ModelRef(digest=blake3(content).digest(), length=len(content), version=0)


ENDED = AssignmentEndedError("the round is closed")
