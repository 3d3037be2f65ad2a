"""A real coordinator on a real port, and clients that speak to it with raw calls."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from blake3 import blake3
from google.protobuf.duration_pb2 import Duration
from grpc import aio
from numpy.typing import NDArray

from fedelta.errors import FedeltaError
from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, DType, Schema, TensorSpec
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.v1.admin_pb2_grpc import AdminServiceStub
from fedelta.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from fedelta.wire import bulk
from fedelta.wire.channel import translate
from fedelta.wire.route import Route
from fedelta_server.coordinator import Coordinator
from fedelta_server.retention import KEEP_VERSIONS, Keep
from fedelta_server.rpc import build_server
from fedelta_server.store._fs import FileSystem
from fedelta_server.store.files import Files
from fedelta_server.store.journal import Journal

T = TypeVar("T")
Array = NDArray[np.float32]

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.array([1.5, -2.0], np.float32)
LEARNER = "test:Learner"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a scenario; none of them may take long."""

    async def within_limit() -> None:
        async with asyncio.timeout(30):
            await scenario()

    asyncio.run(within_limit())


def tensor_file(metadata: Mapping[str, str], **tensors: Array) -> bytes:
    """A canonical file of float32 tensors."""
    schema = Schema.of(TensorSpec(name, DType.F32, values.shape) for name, values in tensors.items())
    return schema.header(metadata) + b"".join(tensors[spec.name].tobytes() for spec in schema.tensors)


def model_file(weight: Array = WEIGHT, bias: Array = BIAS) -> bytes:
    return tensor_file(MODEL_METADATA, weight=weight, bias=bias)


def update_file(add: float) -> bytes:
    """An update that adds the same to every element."""
    return tensor_file(UPDATE_METADATA, weight=np.full_like(WEIGHT, add), bias=np.full_like(BIAS, add))


def digest_of(data: bytes) -> bytes:
    return blake3(data).digest()


def job_toml(rounds: str = "max = 1\nclients = 1", evaluate: int = 0, init: str = "m.safetensors") -> str:
    return (
        f'[job]\nname = "digits"\nseed = 7\n[model]\ninit = "{init}"\n[rounds]\n{rounds}\n'
        f"[train]\nepochs = 2\n[evaluate]\nevery = {evaluate}\n"
    )


async def failure(call: "Coroutine[Any, Any, Any] | Any") -> FedeltaError:
    """The error that a call ends with, as a client sees it."""
    with pytest.raises(aio.AioRpcError) as caught:
        await call
    found = translate(caught.value)
    assert caught.value.code().name == found.status
    return found


async def parts(header: Any, chunks: Iterable[bytes]) -> AsyncIterator[Any]:
    """The messages of an upload."""
    yield header
    for chunk in chunks:
        yield chunk


@dataclass
class Client:
    """A client that does what it is told."""

    channel: aio.Channel
    name: str
    session: str = ""
    stub: Any = field(init=False)

    def __post_init__(self) -> None:
        self.session = self.session or f"session-of-{self.name:>8}"
        self.stub = CoordinatorServiceStub(self.channel)
        self._push: Any = self.channel.stream_unary(
            "/fedelta.v1.CoordinatorService/PushUpdate",
            request_serializer=bulk.serialize,
            response_deserializer=pb.PushUpdateResponse.FromString,
        )
        self._fetch: Any = self.channel.unary_stream(
            "/fedelta.v1.CoordinatorService/FetchModel",
            request_serializer=pb.FetchModelRequest.SerializeToString,
            response_deserializer=bulk.fetch_model,
        )

    async def register(self, **changed: Any) -> pb.RegisterResponse:
        given = {"client_name": self.name, "session_id": self.session, "protocol_min": 1, "protocol_max": 1}
        request = pb.RegisterRequest(**{**given, "learners": [LEARNER], **changed})
        response: pb.RegisterResponse = await self.stub.Register(request)
        return response

    def poll(self, wait: float = 60, running: Iterable[str] = (), unsettled: Iterable[str] = ()) -> Any:
        return self.stub.NextAssignment(
            pb.NextAssignmentRequest(
                session_id=self.session,
                wait=seconds(wait),
                running_assignment_ids=running,
                unsettled_assignment_ids=unsettled,
            )
        )

    async def work(self) -> pb.Assignment:
        """Waits for the next assignment."""
        while not (response := await self.poll()).HasField("assignment"):
            pass
        found: pb.Assignment = response.assignment
        return found

    async def finish(self, *accuracies: float) -> None:
        """Does all work of a job alone: each round adds 1 to every value, version n is of the n-th accuracy.

        An accuracy of 0 is that of a version which is not evaluated.
        """
        for _ in range(len(accuracies) + sum(map(bool, accuracies))):
            work = await self.work()
            if work.kind == pb.ASSIGNMENT_KIND_EVALUATE:
                await self.evaluated(work.id, accuracy=accuracies[work.round - 1])
            else:
                await self.push(work.id, update_file(1.0))

    def header(self, assignment: str, data: bytes, **changed: Any) -> pb.PushUpdateRequest:
        given: dict[str, Any] = {"session_id": self.session, "assignment_id": assignment, "digest": digest_of(data)}
        given |= {"length": len(data), "examples": 10, "train_seconds": 0.5, **changed}
        return pb.PushUpdateRequest(header=pb.UpdateHeader(**given))

    def push(self, assignment: str, data: bytes, **changed: Any) -> Any:
        """Pushes a whole update, or what follows the offset."""
        header = self.header(assignment, data, **changed)
        rest = data[header.header.offset :]
        return self.push_raw(parts(header, [rest] if rest else []))

    def push_raw(self, messages: "AsyncIterable[Any] | None" = None) -> Any:
        return self._push(messages)

    async def fetch(self, assignment: str, offset: int = 0, *, shared: bool = False) -> tuple[pb.ModelHeader, bytes]:
        request = pb.FetchModelRequest(session_id=self.session, assignment_id=assignment, offset=offset, shared=shared)
        messages = [message async for message in self._fetch(request)]
        return messages[0].header, b"".join(messages[1:])

    async def held(self, assignment: str, data: bytes) -> pb.GetUploadStatusResponse:
        request = pb.GetUploadStatusRequest(session_id=self.session, assignment_id=assignment, digest=digest_of(data))
        response: pb.GetUploadStatusResponse = await self.stub.GetUploadStatus(request)
        return response

    def renew(self, assignment: str, fraction: float = 0.0) -> Any:
        progress = pb.Progress(fraction=fraction)
        return self.stub.RenewAssignment(
            pb.RenewAssignmentRequest(session_id=self.session, assignment_id=assignment, progress=progress)
        )

    def evaluated(self, assignment: str, examples: int = 5, **metrics: float) -> Any:
        return self.stub.ReportEvaluation(
            pb.ReportEvaluationRequest(
                session_id=self.session, assignment_id=assignment, examples=examples, metrics=metrics
            )
        )

    def failed(self, assignment: str, kind: pb.FailureKind.ValueType, message: str) -> Any:
        return self.stub.ReportFailure(
            pb.ReportFailureRequest(session_id=self.session, assignment_id=assignment, kind=kind, message=message)
        )


@dataclass
class System:
    """A running coordinator and ways to talk to it."""

    coordinator: Coordinator
    server: aio.Server
    address: str
    channels: list[aio.Channel] = field(default_factory=list)
    operator: Any = field(init=False)
    """The stub of AdminService."""

    def __post_init__(self) -> None:
        self.operator = AdminServiceStub(self.channel())

    def channel(self) -> aio.Channel:
        # Of its own: channels with the same options share one connection.
        own: list[tuple[str, Any]] = [*Route(target=self.address).options(), ("grpc.use_local_subchannel_pool", 1)]
        channel = aio.insecure_channel(self.address, options=own)
        self.channels.append(channel)
        return channel

    def client(self, name: str, session: str = "") -> Client:
        """A client with a connection of its own."""
        return Client(self.channel(), name, session)

    async def joined(self, name: str) -> Client:
        client = self.client(name)
        await client.register()
        return client

    def upload(self, data: bytes, digest: bytes | None = None, length: int | None = None) -> Any:
        """Uploads an initial model."""
        header = admin.UploadModelHeader(digest=digest or digest_of(data), length=length or len(data))
        call: Any = self.channels[0].stream_unary(
            "/fedelta.v1.AdminService/UploadModel",
            request_serializer=bulk.serialize,
            response_deserializer=admin.UploadModelResponse.FromString,
        )
        chunks = [data[at : at + bulk.CHUNK_BYTES] for at in range(0, len(data), bulk.CHUNK_BYTES)]
        return call(parts(admin.UploadModelRequest(header=header), chunks))

    async def submit(self, toml: str | None = None, model: bytes | None = None) -> str:
        """Uploads a model and submits a job that starts from it."""
        stored = await self.upload(model or model_file())
        request = admin.SubmitJobRequest(toml=toml or job_toml(), model_digest=stored.digest)
        return str((await self.operator.SubmitJob(request)).job_id)

    async def job(self, job_id: str) -> admin.Job:
        job: admin.Job = (await self.operator.GetJob(admin.GetJobRequest(job_id=job_id))).job
        return job

    async def watch(self, job_id: str, until: str = "", after: int = 0) -> list[admin.JobEvent]:
        """The job's events, up to the first of the kind `until`, or until the job has ended."""
        call = self.operator.WatchJob(admin.WatchJobRequest(job_id=job_id, after_sequence=after))
        found = []
        async for message in call:
            found.append(message.event)
            if message.event.WhichOneof("event") == until:
                break
        call.cancel()
        return found

    async def download(self, job_id: str, **which: Any) -> tuple[admin.DownloadModelHeader, bytes]:
        call: Any = self.channels[0].unary_stream(
            "/fedelta.v1.AdminService/DownloadModel",
            request_serializer=admin.DownloadModelRequest.SerializeToString,
            response_deserializer=bulk.download_model,
        )
        messages = [message async for message in call(admin.DownloadModelRequest(job_id=job_id, **which))]
        return messages[0].header, b"".join(messages[1:])

    async def settle(self) -> None:
        """Waits until the coordinator has nothing left to do."""
        while self.coordinator._tasks:
            await asyncio.gather(*self.coordinator._tasks, return_exceptions=True)

    async def states(self) -> dict[str, admin.ClientState.ValueType]:
        response = await self.operator.ListClients(admin.ListClientsRequest())
        return {client.name: client.state for client in response.clients}


def seconds(value: float) -> Duration:
    return Duration(seconds=int(value), nanos=int(value % 1 * 1e9))


@asynccontextmanager
async def running(state: Path, fs: FileSystem | None = None, keep: Keep = KEEP_VERSIONS) -> AsyncIterator[System]:
    """A coordinator over a state directory."""
    coordinator = Coordinator(Journal(f"sqlite:///{state / 'journal.db'}"), Files(state, fs), keep)
    await coordinator.start()
    server = await build_server(coordinator)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    system = System(coordinator, server, f"127.0.0.1:{port}")
    try:
        yield system
    finally:
        for channel in system.channels:
            await channel.close()
        await coordinator.drain()
        await coordinator.calls.idle()
        await server.stop(5)
        await coordinator.close()


def part_of(job: admin.Job, client: str, round_: int = -1) -> admin.Participation:
    """A client's part in a closed round."""
    return next(part for part in job.rounds[round_].clients if part.client == client)


async def training(system: System, name: str = "site-1") -> tuple[Client, str, str]:
    """A client with the only assignment of a job."""
    client = await system.joined(name)
    job_id = await system.submit(job_toml("max = 1\nclients = 1\nattempts = 1"))
    return client, (await client.work()).id, job_id


async def assert_done(system: System, job_id: str, add: float = 1.0) -> None:
    """The job is finished and its model is the initial one plus an update."""
    await system.watch(job_id)
    assert (await system.job(job_id)).state == admin.JOB_STATE_FINISHED
    _, model = await system.download(job_id)
    assert model == model_file(WEIGHT + np.float32(add), BIAS + np.float32(add))


@dataclass
class Upload:
    """An upload whose messages are sent one by one."""

    client: Client
    messages: "asyncio.Queue[Any]" = field(default_factory=asyncio.Queue)
    call: Any = None

    @classmethod
    def begin(cls, client: Client, header: pb.PushUpdateRequest, *chunks: bytes) -> "Upload":
        upload = cls(client)
        for message in (header, *chunks):
            upload.messages.put_nowait(message)
        upload.call = client.push_raw(upload._send())
        return upload

    def finish(self, *chunks: bytes) -> Any:
        for chunk in (*chunks, None):
            self.messages.put_nowait(chunk)
        return self.call

    async def _send(self) -> AsyncIterator[Any]:
        while (message := await self.messages.get()) is not None:
            yield message


async def stream(messages: Iterable[Any]) -> AsyncIterator[Any]:
    for message in messages:
        yield message
