"""A coordinator that holds jobs in memory and speaks AdminService on a real port, with generated code only."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, Self

import grpc
from blake3 import blake3

from fedelta.v1 import admin_pb2 as pb
from fedelta.v1 import admin_pb2_grpc

CHUNK = 1000


def job(job_id: str = "digits-1", state: int = pb.JOB_STATE_RUNNING) -> pb.Job:
    """A job without rounds."""
    found = pb.Job(id=job_id, name="digits", state=pb.JobState.ValueType(state), rounds_max=2, toml="[job]")
    found.submitted.FromSeconds(1_700_000_000)
    return found


def closed_round(number: int, *, evaluated: bool = True) -> pb.Round:
    """A round in which one of two clients counted; its version is evaluated by now, or not."""
    return pb.Round(
        number=number,
        attempts=1,
        seconds=0.25,
        bytes_up=4_000,
        bytes_down=8_000,
        clients=[
            pb.Participation(
                client="site-1",
                phase=pb.PHASE_TRAIN,
                outcome=pb.OUTCOME_ACCEPTED,
                examples=10,
                metrics={"loss": 0.5},
                seconds=0.125,
            ),
            pb.Participation(client="site-2", phase=pb.PHASE_TRAIN, outcome=pb.OUTCOME_LOST, reason="fell silent"),
        ],
        metrics={"accuracy": 0.75} if evaluated else {},
        train_metrics={"loss": 0.5},
        digest=bytes([number]) * 32,
        update_norm=0.125,
    )


def evaluation(version: int, accuracy: float = 0.75) -> pb.Evaluation:
    """An evaluation by one of two clients, and by the central one."""
    found = pb.Evaluation(
        version=version,
        metrics={"accuracy": accuracy, "recall/0": 0.5, "recall/10": 0.25, "recall/9": 1.0},
        central={"accuracy": 0.5},
        clients=[
            pb.Participation(
                client="central",
                phase=pb.PHASE_EVALUATE,
                outcome=pb.OUTCOME_ACCEPTED,
                examples=100,
                metrics={"accuracy": 0.5},
                central=True,
            ),
            pb.Participation(
                client="site-1",
                phase=pb.PHASE_EVALUATE,
                outcome=pb.OUTCOME_ACCEPTED,
                examples=10,
                metrics={"accuracy": accuracy},
            ),
            pb.Participation(client="site-2", phase=pb.PHASE_EVALUATE, outcome=pb.OUTCOME_LATE, reason="too slow"),
        ],
        seconds=1.5,
        bytes_down=1_000,
    )
    found.spread["accuracy"].CopyFrom(pb.Spread(min=accuracy, median=accuracy, p90=accuracy, max=accuracy))
    return found


def state_event(sequence: int, state: int, reason: str = "") -> pb.JobEvent:
    """The job is in another state."""
    changed = pb.JobStateChanged(state=pb.JobState.ValueType(state), reason=reason)
    return pb.JobEvent(sequence=sequence, state_changed=changed)


def round_event(sequence: int, number: int) -> pb.JobEvent:
    """A round is closed."""
    return pb.JobEvent(sequence=sequence, round_closed=pb.RoundClosed(round=closed_round(number, evaluated=False)))


def evaluation_event(sequence: int, version: int, accuracy: float = 0.75) -> pb.JobEvent:
    """The evaluation of a version is closed."""
    closed = pb.EvaluationClosed(evaluation=evaluation(version, accuracy))
    return pb.JobEvent(sequence=sequence, evaluation_closed=closed)


class FakeCoordinator(admin_pb2_grpc.AdminServiceServicer):
    """Tests set its attributes and look at what arrived."""

    def __init__(self) -> None:
        self.jobs: dict[str, pb.Job] = {}
        self.clients: list[pb.Client] = []
        self.models: dict[int, bytes] = {}
        self.best = 0
        """The version that is called best."""
        self.submitted: list[pb.SubmitJobRequest] = []
        self.steered: list[tuple[str, str, str]] = []
        self.uploads: list[tuple[pb.UploadModelHeader, bytes]] = []
        self.events: list[pb.JobEvent] = []
        self.evaluate_after = 0
        """The sequence number that calls of EvaluateJob are answered with."""
        self.watches: list[int] = []
        """The `after_sequence` of each watch."""
        self.break_watch_after: list[int] = []
        """Each watch takes one: it breaks after so many events."""
        self.watches_end_in_order = False
        """Watches that break do so without an error, as when the coordinator drains."""
        self.downloads: list[int] = []
        """The offset of each download."""
        self.asked_versions: list[int] = []
        """The version that each download was answered with."""
        self.break_download_at: list[int] = []
        """Each download takes one: it breaks at that offset."""
        self.spoil: Callable[[bytes], bytes] = lambda data: data
        self.hang: threading.Event | None = None
        """Bulk calls wait for it."""
        self._server: grpc.Server | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        self._threads = ThreadPoolExecutor(4)
        self._server = grpc.server(self._threads)
        admin_pb2_grpc.add_AdminServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        self._server.start()

    def stop(self) -> None:
        if self.hang is not None:
            self.hang.set()
        if self._server is not None:
            self._server.stop(0).wait()
            self._server.wait_for_termination()
            self._threads.shutdown()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _refuse(self, context: Any, code: str, status: grpc.StatusCode, message: str) -> NoReturn:
        context.set_trailing_metadata((("fedelta-error", code),))
        context.abort(status, message)
        raise AssertionError

    def _job(self, job_id: str, context: Any) -> pb.Job:
        if job_id not in self.jobs:
            self._refuse(context, "not-found", grpc.StatusCode.NOT_FOUND, f"there is no job {job_id!r}")
        return self.jobs[job_id]

    def SubmitJob(self, request: pb.SubmitJobRequest, context: Any) -> pb.SubmitJobResponse:
        del context
        self.submitted.append(request)
        self.jobs.setdefault("digits-1", job())
        return pb.SubmitJobResponse(job_id="digits-1")

    def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        del request, context
        return pb.ListJobsResponse(jobs=self.jobs.values())

    def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=self._job(request.job_id, context))

    def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> Iterator[pb.WatchJobResponse]:
        self.watches.append(request.after_sequence)
        limit = self.break_watch_after.pop(0) if self.break_watch_after else None
        wanted = [event for event in self.events if event.sequence > request.after_sequence]
        for event in wanted[:limit]:
            yield pb.WatchJobResponse(event=event)
        if limit is not None and not self.watches_end_in_order:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    def StopJob(self, request: pb.StopJobRequest, context: Any) -> pb.StopJobResponse:
        self._job(request.job_id, context)
        self.steered.append(("stop", request.job_id, request.reason))
        return pb.StopJobResponse()

    def PauseJob(self, request: pb.PauseJobRequest, context: Any) -> pb.PauseJobResponse:
        self._job(request.job_id, context)
        self.steered.append(("pause", request.job_id, request.reason))
        return pb.PauseJobResponse()

    def ResumeJob(self, request: pb.ResumeJobRequest, context: Any) -> pb.ResumeJobResponse:
        if self._job(request.job_id, context).state != pb.JOB_STATE_PAUSED:
            self._refuse(context, "wrong-state", grpc.StatusCode.FAILED_PRECONDITION, "the job is not paused")
        self.steered.append(("resume", request.job_id, ""))
        return pb.ResumeJobResponse()

    def _named(self, name: str) -> int:
        return self.best if name == "best" else max(self.models)

    def ExtendJob(self, request: pb.ExtendJobRequest, context: Any) -> pb.ExtendJobResponse:
        self._job(request.job_id, context).rounds_max = request.rounds_max
        self.steered.append(("extend", request.job_id, str(request.rounds_max)))
        return pb.ExtendJobResponse()

    def EvaluateJob(self, request: pb.EvaluateJobRequest, context: Any) -> pb.EvaluateJobResponse:
        job = self._job(request.job_id, context)
        versions = list(request.versions) or [job.rounds_done]
        self.steered.append(("evaluate", request.job_id, ",".join(map(str, versions))))
        return pb.EvaluateJobResponse(versions=versions, after_sequence=self.evaluate_after)

    def ListClients(self, request: pb.ListClientsRequest, context: Any) -> pb.ListClientsResponse:
        del request, context
        return pb.ListClientsResponse(clients=self.clients)

    def UploadModel(self, request_iterator: Iterator[pb.UploadModelRequest], context: Any) -> pb.UploadModelResponse:
        del context
        header = next(request_iterator).header
        data = b"".join(message.data for message in request_iterator)
        if self.hang is not None:
            self.hang.wait()
        self.uploads.append((header, data))
        return pb.UploadModelResponse(digest=blake3(data).digest(), length=len(data))

    def DownloadModel(self, request: pb.DownloadModelRequest, context: Any) -> Iterator[pb.DownloadModelResponse]:
        version = request.version if request.HasField("version") else self._named(request.version_name)
        data = self.models[version]
        self.downloads.append(request.offset)
        self.asked_versions.append(version)
        digest = blake3(data).digest()
        data = self.spoil(data)
        end = self.break_download_at.pop(0) if self.break_download_at else len(data)
        yield pb.DownloadModelResponse(
            header=pb.DownloadModelHeader(version=version, digest=digest, length=len(data), offset=request.offset)
        )
        if self.hang is not None:
            self.hang.wait()
        for at in range(request.offset, end, CHUNK):
            yield pb.DownloadModelResponse(data=data[at : min(at + CHUNK, end)])
        if end < len(data):
            context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")
