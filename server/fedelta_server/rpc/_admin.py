"""AdminService: what operators call."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fedelta.config import Version, parse_job
from fedelta.errors import BadRequestError, StorageError, UnavailableError
from fedelta.v1 import admin_pb2 as pb
from fedelta_server.best import best_version
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import Client, events
from fedelta_server.evaluations import measured
from fedelta_server.models import ModelImports
from fedelta_server.rpc._bulk import check_digest, take_data, take_header
from fedelta_server.rpc._convert import client_message, event_message, history, job_message
from fedelta_server.rpc._guard import Context, guarded, guarded_stream
from fedelta_server.rpc._subject import Subject, subject
from fedelta_server.transfers import Downloads
from fedelta_server.versions import Versions


class AdminService:
    """Translates operators' calls into events and queries."""

    def __init__(
        self, coordinator: Coordinator, models: ModelImports, versions: Versions, downloads: Downloads
    ) -> None:
        self._coordinator = coordinator
        self.calls = coordinator.calls
        self._models = models
        self._versions = versions
        self._downloads = downloads

    def subject(self, request: Any) -> Subject:
        """What a call is about, for the log."""
        return subject(self._coordinator.engine, request)

    @guarded
    async def SubmitJob(self, request: pb.SubmitJobRequest, context: Context) -> pb.SubmitJobResponse:
        spec = parse_job(request.toml, request.file_name or "job file")
        initial = await self._models.initial(spec, request.model_digest)
        step = await self._coordinator.dispatch(
            events.JobSubmitted(
                at=self._coordinator.now(),
                spec=spec,
                toml=request.toml,
                unix_time=time.time(),
                initial=initial.model,
                origin=initial.origin,
            )
        )
        return pb.SubmitJobResponse(job_id=step.records[0].job)

    @guarded
    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        jobs = [self._job(job_id) for job_id in self._coordinator.engine.book.jobs]
        await self._coordinator.settled()
        return pb.ListJobsResponse(jobs=jobs)

    @guarded
    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        message = self._job(request.job_id)
        # The engine knows of a round's end before the journal holds the round.
        await self._coordinator.settled()
        found = await self._coordinator.in_thread(self._coordinator.journal.closed, request.job_id)
        closed = [record for _, record in found]
        history(message, closed)
        known = measured(closed, without=message.pruned_versions)
        best = best_version(self._coordinator.engine.book.job(request.job_id).spec.evaluate, known)
        if best is not None:
            message.best_version = best
        return pb.GetJobResponse(job=message)

    @guarded_stream
    async def WatchJob(
        self, request: pb.WatchJobRequest, context: Context
    ) -> AsyncGenerator[pb.WatchJobResponse, None]:
        after = request.after_sequence
        while True:
            news = self._coordinator.news()
            # Read in this order: where the job has ended and nothing more is to be told, its end was told.
            job = self._coordinator.engine.book.job(request.job_id)
            ended = job.state.ended and not job.evaluations
            try:
                await self._coordinator.settled()
            except StorageError:
                continue  # that was not so: the engine is another by now, and what is told is what is on disk
            entries = await self._coordinator.in_thread(self._coordinator.journal.entries, request.job_id, after)
            for entry in entries:
                yield pb.WatchJobResponse(event=event_message(entry))
                after = entry.sequence
            if entries:
                continue
            if ended:
                return
            if self._coordinator.draining:
                raise UnavailableError("the coordinator is shutting down")
            await news.wait()

    @guarded
    async def StopJob(self, request: pb.StopJobRequest, context: Context) -> pb.StopJobResponse:
        await self._coordinator.dispatch(
            events.StopRequested(at=self._coordinator.now(), job=request.job_id, reason=request.reason)
        )
        return pb.StopJobResponse()

    @guarded
    async def PauseJob(self, request: pb.PauseJobRequest, context: Context) -> pb.PauseJobResponse:
        await self._coordinator.dispatch(
            events.PauseRequested(at=self._coordinator.now(), job=request.job_id, reason=request.reason)
        )
        return pb.PauseJobResponse()

    @guarded
    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Context) -> pb.ResumeJobResponse:
        await self._coordinator.dispatch(events.ResumeRequested(at=self._coordinator.now(), job=request.job_id))
        return pb.ResumeJobResponse()

    @guarded
    async def ExtendJob(self, request: pb.ExtendJobRequest, context: Context) -> pb.ExtendJobResponse:
        await self._coordinator.dispatch(
            events.ExtendRequested(at=self._coordinator.now(), job=request.job_id, rounds_max=request.rounds_max)
        )
        return pb.ExtendJobResponse()

    @guarded
    async def EvaluateJob(self, request: pb.EvaluateJobRequest, context: Context) -> pb.EvaluateJobResponse:
        job = self._coordinator.engine.book.job(request.job_id)
        newest = [job.model.version] if job.model is not None else []
        versions = tuple(sorted(set(request.versions or newest)))
        await self._coordinator.settled()
        before = await self._coordinator.in_thread(self._coordinator.journal.last_sequence, job.id)
        await self._coordinator.dispatch(
            events.EvaluateRequested(at=self._coordinator.now(), job=job.id, versions=versions)
        )
        return pb.EvaluateJobResponse(versions=versions, after_sequence=before)

    @guarded
    async def ListClients(self, request: pb.ListClientsRequest, context: Context) -> pb.ListClientsResponse:
        return pb.ListClientsResponse(clients=map(self._client, self._coordinator.engine.clients))

    @guarded
    async def UploadModel(
        self, requests: "AsyncIterator[memoryview | pb.UploadModelRequest]", context: Context
    ) -> pb.UploadModelResponse:
        header = (await take_header(requests)).header
        digest = check_digest(header.digest)
        stored = await self._models.receive(digest, header.length, take_data(requests))
        return pb.UploadModelResponse(digest=stored.digest, length=stored.length)

    @guarded_stream
    async def DownloadModel(
        self, request: pb.DownloadModelRequest, context: Context
    ) -> "AsyncGenerator[bytes | pb.DownloadModelResponse, None]":
        model = await self._versions.resolve(request.job_id, _wanted(request))
        header = pb.DownloadModelHeader(
            version=model.version, digest=model.digest, length=model.length, offset=request.offset
        )
        path = self._coordinator.files.model_path(model.digest)
        async with self._downloads.one(path, model.length, request.offset) as chunks:
            yield pb.DownloadModelResponse(header=header)
            async for chunk in chunks:
                yield chunk

    def _client(self, client: Client) -> pb.Client:
        book, now = self._coordinator.engine.book, self._coordinator.now()
        queue = sorted(book.queues.get(client.name, {}).values(), key=lambda each: each.precedence)
        state = pb.CLIENT_STATE_BUSY if queue else pb.CLIENT_STATE_IDLE
        if not client.live(now):
            state = pb.CLIENT_STATE_GONE
        seen = now if client.polls and client.live(now) else client.last_heard
        declined = {
            job_id: decline.reason
            for job_id in client.declined
            if not book.jobs[job_id].state.ended and (decline := client.declines(job_id, now)) is not None
        }
        return client_message(client, state, seen + time.time() - now, queue, declined)

    def _job(self, job_id: str) -> pb.Job:
        engine = self._coordinator.engine
        job = engine.book.job(job_id)
        return job_message(job, engine.waiting_for(job, self._coordinator.now(), by_name=True))


def _wanted(request: pb.DownloadModelRequest) -> Version:
    """The version that a download asks for."""
    if request.version_name == "best":
        return "best"
    if request.version_name not in ("", "latest"):
        raise BadRequestError(f"{request.version_name!r} names no version; there are best, latest and the numbers")
    return request.version if request.HasField("version") else "latest"
