"""AdminService, health and reflection."""

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from safetensors.numpy import save

from fedelta.errors import (
    BadRequestError,
    ConfigError,
    DigestMismatchError,
    NotFiniteError,
    NotFoundError,
    PayloadError,
    WrongStateError,
)
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    digest_of,
    failure,
    job_toml,
    model_file,
    run,
    running,
    update_file,
)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[job", "digits.toml: not TOML"),
        (job_toml().replace("epochs = 2\n", "epochs = 2\n[evaluatte]\n"), "'evaluate'"),
        (job_toml("max = 1\nmin_client = 2"), "min_clients"),
        (job_toml("max = 0"), "max"),
        (job_toml(), "upload the model first"),
    ],
)
def test_a_job_that_cannot_run_is_refused_when_it_is_submitted(tmp_path: Path, toml: str, words: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            request = admin.SubmitJobRequest(toml=toml, file_name="digits.toml")
            error = await failure(system.operator.SubmitJob(request))
            assert isinstance(error, ConfigError)
            assert words in error.message
            unknown = admin.SubmitJobRequest(toml=job_toml(), model_digest=bytes(32))
            assert isinstance(await failure(system.operator.SubmitJob(unknown)), ConfigError)
            assert list((await system.operator.ListJobs(admin.ListJobsRequest())).jobs) == []

    run(scenario)


def test_jobs_are_listed_oldest_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            await system.submit()
            await system.submit(job_toml("max = 3\nclients = 2"))
            first, second = (await system.operator.ListJobs(admin.ListJobsRequest())).jobs
            assert (first.id, second.id) == ("digits-1", "digits-2")
            assert (second.rounds_max, second.rounds_done) == (3, 0)
            assert second.state == admin.JOB_STATE_QUEUED
            assert second.waiting_for == "2 clients; 0 ready"
            assert first.toml == job_toml()
            assert first.initial_digest == digest_of(model_file())
            assert first.submitted.seconds > 1_700_000_000

    run(scenario)


def test_an_unknown_job_is_not_found(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            for call in (
                system.operator.GetJob(admin.GetJobRequest(job_id="x-1")),
                system.operator.StopJob(admin.StopJobRequest(job_id="x-1")),
                system.operator.PauseJob(admin.PauseJobRequest(job_id="x-1")),
                system.operator.ResumeJob(admin.ResumeJobRequest(job_id="x-1")),
                system.watch("x-1"),
                system.download("x-1"),
            ):
                error = await failure(call)
                assert isinstance(error, NotFoundError)
                assert "'x-1'" in error.message

    run(scenario)


def test_an_initial_model_is_stored_in_canonical_form(tmp_path: Path) -> None:
    foreign = save({"weight": WEIGHT, "bias": BIAS}, {"made by": "somebody"})
    assert foreign != model_file()

    async def scenario() -> None:
        async with running(tmp_path) as system:
            stored = await system.upload(foreign)
            assert (stored.digest, stored.length) == (digest_of(model_file()), len(model_file()))
            job_id = await system.submit(model=foreign)
            header, data = await system.download(job_id)
            assert data == model_file()
            assert (header.version, header.digest) == (0, stored.digest)
            assert list((tmp_path / "uploads").iterdir()) == []

    run(scenario)


def test_a_model_that_is_none_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            garbled = system.upload(model_file(), digest=digest_of(b"another"))
            assert isinstance(await failure(garbled), DigestMismatchError)
            short = system.upload(model_file(), length=len(model_file()) + 1)
            assert isinstance(await failure(short), DigestMismatchError)
            assert isinstance(await failure(system.upload(model_file(), digest=b"short")), BadRequestError)
            assert isinstance(await failure(system.upload(b"PK\x03\x04 a zip file")), PayloadError)
            nan = model_file(bias=np.array([0, np.nan], np.float32))
            error = await failure(system.upload(nan))
            assert isinstance(error, NotFiniteError)
            assert "'bias'" in error.message
            integers = save({"steps": np.arange(3)})
            assert "nothing to train" in (await failure(system.upload(integers))).message
            for directory in ("models", "uploads", "temp"):
                assert list((tmp_path / directory).iterdir()) == []

    run(scenario)


def test_every_version_can_be_had(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 2\nclients = 1"))
            for _ in range(2):
                await client.push((await client.work()).id, update_file(1.0))
            await system.watch(job_id)
            for version in range(3):
                header, data = await system.download(job_id, version=version)
                add = np.float32(version)
                assert data == model_file(WEIGHT + add, BIAS + add)
                assert (header.version, header.digest, header.length) == (version, digest_of(data), len(data))
            header, data = await system.download(job_id, offset=100)
            assert (header.version, header.offset) == (2, 100)
            assert data == model_file(WEIGHT + np.float32(2), BIAS + np.float32(2))[100:]
            error = await failure(system.download(job_id, version=3))
            assert isinstance(error, NotFoundError)
            assert "it has 0 to 2" in error.message
            assert isinstance(await failure(system.download(job_id, offset=10_000)), BadRequestError)

    run(scenario)


def test_a_job_without_a_model_says_who_will_make_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            request = admin.SubmitJobRequest(toml=job_toml(init="first-client"))
            job_id = (await system.operator.SubmitJob(request)).job_id
            error = await failure(system.download(job_id))
            assert isinstance(error, NotFoundError)
            assert "first client" in error.message

    run(scenario)


def test_a_watch_tells_everything_in_order_and_ends_with_the_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml(evaluate=1))
            await client.push((await client.work()).id, update_file(1.0))
            await client.evaluated((await client.work()).id, accuracy=0.5)
            events = await system.watch(job_id)
            assert [event.WhichOneof("event") for event in events] == [
                "state_changed",
                "state_changed",
                "phase_opened",
                "participation_ended",
                "version_made",
                "round_closed",
                "phase_opened",
                "participation_ended",
                "evaluation_closed",
                "state_changed",
            ]
            states = [event.state_changed.state for event in events if event.HasField("state_changed")]
            assert states == [admin.JOB_STATE_QUEUED, admin.JOB_STATE_RUNNING, admin.JOB_STATE_FINISHED]
            assert list(events[2].phase_opened.clients) == ["site-1"]
            assert events[7].participation_ended.participation.metrics["accuracy"] == 0.5
            job = await system.job(job_id)
            assert events[5].round_closed.round.digest == job.rounds[0].digest
            assert events[8].evaluation_closed.evaluation == job.evaluations[0]
            sequences = [event.sequence for event in events]
            assert sequences == sorted(set(sequences))
            assert await system.watch(job_id, after=sequences[3]) == events[4:]
            assert await system.watch(job_id, after=sequences[-1]) == []

    run(scenario)


def test_a_paused_job_opens_no_round_until_it_is_resumed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            job_id = await system.submit(job_toml("max = 2\nclients = 1"))
            await system.operator.PauseJob(admin.PauseJobRequest(job_id=job_id, reason="maintenance"))
            await client.push((await client.work()).id, update_file(1.0))
            await system.watch(job_id, until="round_closed")
            job = await system.job(job_id)
            assert (job.state, job.reason, job.rounds_done) == (admin.JOB_STATE_PAUSED, "maintenance", 1)
            assert not (await client.poll(wait=0)).HasField("assignment")
            await system.operator.ResumeJob(admin.ResumeJobRequest(job_id=job_id))
            assert (await client.work()).round == 2
            error = await failure(system.operator.ResumeJob(admin.ResumeJobRequest(job_id=job_id)))
            assert isinstance(error, WrongStateError)
            await system.operator.StopJob(admin.StopJobRequest(job_id=job_id, reason="enough"))
            job = await system.job(job_id)
            assert (job.state, job.reason) == (admin.JOB_STATE_STOPPED, "enough")
            for call in (
                system.operator.StopJob(admin.StopJobRequest(job_id=job_id)),
                system.operator.ResumeJob(admin.ResumeJobRequest(job_id=job_id)),
            ):
                assert isinstance(await failure(call), WrongStateError)

    run(scenario)


def test_a_state_is_told_once_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            job_id = await system.submit()
            journal, asked = system.coordinator.journal, asyncio.Event()
            append, waiting = journal.append, list[tuple[Any, Future[None]]]()

            def hold(batch: Any) -> "Future[None]":
                waiting.append((batch, Future()))
                if len(waiting) == 2:
                    asked.set()
                return waiting[-1][1]

            monkeypatch.setattr(journal, "append", hold)
            stop = asyncio.ensure_future(_result(system.operator.StopJob(admin.StopJobRequest(job_id=job_id))))
            while not waiting:
                await asyncio.sleep(0)
            told = asyncio.ensure_future(system.job(job_id))
            await asked.wait()
            assert not told.done()
            monkeypatch.setattr(journal, "append", append)
            for batch, done in waiting:
                await asyncio.wrap_future(append(batch))
                done.set_result(None)
            await stop
            assert (await told).state == admin.JOB_STATE_STOPPED

    run(scenario)


async def _result(call: Any) -> Any:
    return await call


def test_clients_are_idle_busy_or_gone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            b, a = await system.joined("b"), await system.joined("a")
            assert await system.states() == {"a": admin.CLIENT_STATE_IDLE, "b": admin.CLIENT_STATE_IDLE}
            await system.submit(job_toml("max = 1\nclients = 2"))
            await a.failed((await a.work()).id, pb.FAILURE_KIND_CLIENT, "no room")
            await b.work()
            assert await system.states() == {"a": admin.CLIENT_STATE_IDLE, "b": admin.CLIENT_STATE_BUSY}
            await a.stub.Leave(pb.LeaveRequest(session_id=a.session))
            assert await system.states() == {"a": admin.CLIENT_STATE_GONE, "b": admin.CLIENT_STATE_BUSY}

    run(scenario)


@pytest.mark.parametrize("service", ["", "fedelta.v1.CoordinatorService", "fedelta.v1.AdminService"])
def test_probes_find_the_services_healthy(tmp_path: Path, service: str) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            stub: Any = health_pb2_grpc.HealthStub(system.channel())
            response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert response.status == health_pb2.HealthCheckResponse.SERVING

    run(scenario)


def test_tools_find_the_services_by_reflection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(system.channel())
            call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
            (answer,) = [message async for message in call]
            listed = answer.list_services_response.service
            assert {service.name for service in listed} >= {
                "fedelta.v1.AdminService",
                "fedelta.v1.CoordinatorService",
                "grpc.health.v1.Health",
            }

    run(scenario)
