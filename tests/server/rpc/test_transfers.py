"""FetchModel, PushUpdate and GetUploadStatus: what is acknowledged counts once, everything else can be tried again."""

import asyncio
import os
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grpc import aio

from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    BusyError,
    DigestMismatchError,
    ForeignAssignmentError,
    NotFiniteError,
    StalledError,
    StorageError,
    SupersededError,
)
from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_server import transfers, turns, uploads
from fedelta_server.store._fs import FileSystem
from tests.server.rpc.harness import (
    BIAS,
    WEIGHT,
    Client,
    Upload,
    assert_done,
    digest_of,
    failure,
    job_toml,
    model_file,
    part_of,
    run,
    running,
    stream,
    tensor_file,
    training,
    update_file,
)

UPDATE = update_file(1.0)
HALF = len(UPDATE) // 2


class Disk(FileSystem):
    """A disk that is full now and then."""

    def __init__(self) -> None:
        self.full = False

    def write(self, fd: int, path: Path, data: memoryview | bytes, offset: int) -> None:
        if self.full:
            super().write(fd, path, data[:10], offset)
            raise StorageError(f"{path}: {os.strerror(28)}")
        super().write(fd, path, data, offset)


class SlowDisk(FileSystem):
    """A disk whose first write takes until it is told to end. It notes where uploads are written."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.written: list[int] = []

    def write(self, fd: int, path: Path, data: memoryview | bytes, offset: int) -> None:
        if not self.begun.is_set():
            self.begun.set()
            assert self.go_on.wait(10)
        if path.suffix == ".part":
            self.written.append(offset)
        super().write(fd, path, data, offset)


async def _held(client: Client, assignment: str, data: bytes, length: int) -> None:
    """Waits until the coordinator holds so much."""
    while (await client.held(assignment, data)).bytes_held != length:
        pass


@pytest.mark.parametrize("offset", [0, 1, 100, len(model_file())])
def test_a_model_is_fetched_from_an_offset(tmp_path: Path, offset: int) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, _ = await training(system)
            header, data = await client.fetch(assignment, offset)
            assert data == model_file()[offset:]
            assert header.offset == offset
            assert (header.model.length, header.model.digest) == (len(model_file()), digest_of(model_file()))

    run(scenario)


def test_a_model_is_fetched_for_an_open_assignment_of_ones_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            assert isinstance(await failure(client.fetch(assignment, len(model_file()) + 1)), BadRequestError)
            other = await system.joined("other")
            for call in (other.fetch(assignment), other.push(assignment, UPDATE), other.held(assignment, UPDATE)):
                assert isinstance(await failure(call), ForeignAssignmentError)
            assert isinstance(await failure(client.fetch("no-such")), AssignmentEndedError)
            await system.operator.StopJob(admin.StopJobRequest(job_id=job_id))
            for call in (client.fetch(assignment), client.push(assignment, UPDATE), client.held(assignment, UPDATE)):
                error = await failure(call)
                assert isinstance(error, AssignmentEndedError)
                assert "the job was stopped" in error.message

    run(scenario)


def test_updates_are_averaged_by_examples(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    deltas = [(rng.standard_normal((3, 4), np.float32), rng.standard_normal(2, np.float32)) for _ in range(3)]
    weights = [1, 20, 300]

    async def scenario() -> None:
        async with running(tmp_path) as system:
            clients = [await system.joined(name) for name in "abc"]
            job_id = await system.submit(job_toml("max = 1\nclients = 3"))
            for client, (weight, bias), examples in zip(clients, deltas, weights, strict=True):
                update = tensor_file(UPDATE_METADATA, weight=weight, bias=bias)
                metrics = {"loss": float(examples)}
                response = await client.push((await client.work()).id, update, examples=examples, metrics=metrics)
                assert not response.already_accepted
            await system.watch(job_id)
            _, model = await system.download(job_id)
            start = len(model) - 4 * (WEIGHT.size + BIAS.size)
            found = np.frombuffer(model, np.float32, offset=start)
            shares = np.array(weights, np.float64) / sum(weights)
            # Canonical order: by name where the types are of one width.
            expected = np.concatenate(
                [
                    BIAS + sum(share * bias for share, (_, bias) in zip(shares, deltas, strict=True)),
                    (WEIGHT + sum(share * weight for share, (weight, _) in zip(shares, deltas, strict=True))).ravel(),
                ]
            )
            np.testing.assert_allclose(found, expected, rtol=1e-6)
            closed = (await system.job(job_id)).rounds[0]
            assert closed.bytes_up == 3 * len(UPDATE)
            assert closed.train_metrics["loss"] == pytest.approx((1 + 400 + 90000) / 321)
            assert part_of(await system.job(job_id), "b").seconds == 0.5

    run(scenario)


def test_an_update_is_on_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, _ = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 1\nclients = 2"))
            await a.push((await a.work()).id, UPDATE)
            assert system.coordinator.files.update_path(job_id, 1, 1, "a").read_bytes() == UPDATE

    run(scenario)


def test_a_repeated_push_is_answered_with_the_first_result(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            await client.push(assignment, UPDATE)
            assert (await client.push(assignment, UPDATE)).already_accepted
            assert (await client.held(assignment, UPDATE)).accepted
            assert isinstance(await failure(client.push(assignment, update_file(2.0))), AssignmentEndedError)
            await assert_done(system, job_id)

    run(scenario)


def test_nothing_is_called_accepted_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            journal, asked, gate = system.coordinator.journal, asyncio.Event(), asyncio.Event()
            append = journal.append
            waiting: list[tuple[Any, Future[None]]] = []

            def hold(records: Any) -> "Future[None]":
                done: Future[None] = Future()
                waiting.append((records, done))
                gate.set() if len(waiting) > 1 and records == [] else None
                asked.set() if records else None
                return done

            monkeypatch.setattr(journal, "append", hold)
            first = client.push(assignment, UPDATE)
            await asyncio.wait_for(asked.wait(), 10)
            first.cancel()
            again = asyncio.ensure_future(_result(client.push(assignment, UPDATE)))
            status = asyncio.ensure_future(client.held(assignment, UPDATE))
            await gate.wait()
            assert not again.done()
            assert not status.done()
            monkeypatch.setattr(journal, "append", append)
            for records, done in waiting:
                await asyncio.wrap_future(append(records))
                done.set_result(None)
            while len(waiting) < 3 and not (again.done() and status.done()):
                await asyncio.sleep(0)
            assert (await again).already_accepted
            assert (await status).accepted
            await assert_done(system, job_id)

    run(scenario)


def test_a_broken_upload_goes_on_where_it_broke(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            upload = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            await _held(client, assignment, UPDATE, HALF)
            upload.call.cancel()
            await client.push(assignment, UPDATE, offset=HALF)
            await assert_done(system, job_id)

    run(scenario)


def test_a_broken_upload_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            upload = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            await _held(client, assignment, UPDATE, HALF)
            upload.call.cancel()
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            assert (await client.work()).id == assignment
            assert (await client.held(assignment, UPDATE)).bytes_held == HALF
            error = await failure(client.push(assignment, UPDATE, offset=HALF + 1))
            assert isinstance(error, BadRequestError)
            assert f"{HALF} bytes" in error.message
            await client.push(assignment, UPDATE, offset=HALF)
            await assert_done(system, job_id)

    run(scenario)


def test_another_digest_starts_at_zero(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            upload = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            await _held(client, assignment, UPDATE, HALF)
            upload.call.cancel()
            other = update_file(2.0)
            assert (await client.held(assignment, other)).bytes_held == 0
            assert isinstance(await failure(client.push(assignment, other, offset=HALF)), BadRequestError)
            await client.push(assignment, other)
            await assert_done(system, job_id, 2.0)

    run(scenario)


def test_a_newer_upload_ends_an_older_one(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            older = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            await _held(client, assignment, UPDATE, HALF)
            newer = Upload.begin(client, client.header(assignment, UPDATE, offset=HALF))
            assert isinstance(await failure(older.call), SupersededError)
            await newer.finish(UPDATE[HALF:])
            await assert_done(system, job_id)

    run(scenario)


@pytest.mark.parametrize("broken", [False, True])
def test_a_newer_upload_waits_until_the_older_ones_last_write_is_over(tmp_path: Path, broken: bool) -> None:
    disk = SlowDisk()

    async def scenario() -> None:
        async with running(tmp_path, disk) as system:
            disk.begun.set()
            client, assignment, job_id = await training(system)
            disk.begun.clear()
            disk.written.clear()
            older = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:50], UPDATE[50:HALF])
            await asyncio.to_thread(disk.begun.wait)
            if broken:
                older.call.cancel()
            newer = asyncio.ensure_future(_result(client.push(assignment, UPDATE)))
            # Time enough for it, were it not to wait.
            assert not (await asyncio.wait([newer], timeout=0.2))[0]
            assert disk.written == []
            disk.go_on.set()
            await newer
            assert disk.written == [0, 0]
            await assert_done(system, job_id)

    run(scenario)


def test_uploads_wait_for_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_CONCURRENT", 1)

    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            job_id = await system.submit(job_toml("max = 1\nclients = 2"))
            first, second = (await a.work()).id, (await b.work()).id
            under_way = Upload.begin(a, a.header(first, UPDATE), UPDATE[:HALF])
            await _held(a, first, UPDATE, HALF)
            monkeypatch.setattr(turns, "TURN_SECONDS", 0.05)
            assert isinstance(await failure(b.push(second, UPDATE)), BusyError)
            monkeypatch.setattr(turns, "TURN_SECONDS", 30)
            waiting = asyncio.ensure_future(_result(b.push(second, UPDATE)))
            await under_way.finish(UPDATE[HALF:])
            await waiting
            await assert_done(system, job_id)

    run(scenario)


@pytest.mark.parametrize("stalled", [False, True])
def test_downloads_wait_for_their_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stalled: bool) -> None:
    """A download that nobody reads keeps the next one waiting: until it is over, or for as long as it may stall."""
    monkeypatch.setattr(transfers, "MAX_CONCURRENT", 1)
    monkeypatch.setattr(transfers, "STALL_SECONDS", 0.1 if stalled else 60)
    model = model_file(np.zeros((4096, 4096), np.float32))

    async def scenario() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            await system.submit(job_toml("max = 1\nclients = 2"), model)
            first, second = (await a.work()).id, (await b.work()).id
            unread = a.stub.FetchModel(pb.FetchModelRequest(session_id=a.session, assignment_id=first))
            await unread.read()
            if not stalled:
                monkeypatch.setattr(turns, "TURN_SECONDS", 0.05)
                assert isinstance(await failure(_result(b.fetch(second))), BusyError)
                monkeypatch.setattr(turns, "TURN_SECONDS", 30)
                unread.cancel()
            assert (await b.fetch(second))[1] == model
            unread.cancel()

    run(scenario)


def test_of_many_uploads_of_one_update_one_counts(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            header = client.header(assignment, UPDATE)
            begun = [Upload.begin(client, header, UPDATE[:HALF]) for _ in range(8)]
            results = (_result(upload.finish(UPDATE[HALF:])) for upload in begun)
            ended = await asyncio.gather(*results, return_exceptions=True)
            answers = [each for each in ended if isinstance(each, pb.PushUpdateResponse)]
            assert sum(not answer.already_accepted for answer in answers) <= 1
            refused = [each for each in ended if not isinstance(each, pb.PushUpdateResponse)]
            assert {each.code().name for each in refused if isinstance(each, aio.AioRpcError)} <= {"ABORTED"}
            assert answers
            await assert_done(system, job_id)

    run(scenario)


def test_garbled_bytes_may_be_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            garbled = client.push(assignment, UPDATE[:-1] + b"\xff", digest=digest_of(UPDATE))
            assert isinstance(await failure(garbled), DigestMismatchError)
            assert (await client.held(assignment, UPDATE)).bytes_held == 0
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)

    run(scenario)


def test_an_upload_that_ends_early_may_be_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            short = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            error = await failure(short.finish())
            assert isinstance(error, DigestMismatchError)
            assert f"{HALF} of {len(UPDATE)} bytes" in error.message
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)

    run(scenario)


def test_the_first_client_brings_the_model(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            toml = job_toml(init="first-client")
            job_id = str((await system.operator.SubmitJob(admin.SubmitJobRequest(toml=toml))).job_id)
            making = await client.work()
            assert (making.kind, making.seed, making.round) == (pb.ASSIGNMENT_KIND_INITIALIZE, 7, 0)
            assert not making.HasField("model")
            assert "no model to fetch" in (await failure(client.fetch(making.id))).message
            await client.push(making.id, model_file(), examples=0)
            await client.push((await client.work()).id, UPDATE)
            await assert_done(system, job_id)
            assert (await system.download(job_id, version=0))[1] == model_file()

    run(scenario)


def test_an_initial_model_that_is_none_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            toml = job_toml("max = 1\nattempts = 1", init="first-client")
            job_id = str((await system.operator.SubmitJob(admin.SubmitJobRequest(toml=toml))).job_id)
            nan = tensor_file(MODEL_METADATA, weight=np.array([np.nan], np.float32))
            error = await failure(client.push((await client.work()).id, nan))
            assert isinstance(error, NotFiniteError)
            job = await system.job(job_id)
            assert job.state == admin.JOB_STATE_PAUSED
            assert "'weight'" in job.reason

    run(scenario)


def test_an_upload_whose_assignment_ends_meanwhile_is_refused_before_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            upload = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            await _held(client, assignment, UPDATE, HALF)
            await system.operator.StopJob(admin.StopJobRequest(job_id=job_id))
            upload.messages.put_nowait(UPDATE[HALF : HALF + 10])
            assert isinstance(await failure(upload.call), AssignmentEndedError)
            upload.messages.put_nowait(None)

    run(scenario)


def test_an_upload_that_stalls_is_ended_and_can_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            monkeypatch.setattr(uploads, "STALL_SECONDS", 0.05)
            stalled = Upload.begin(client, client.header(assignment, UPDATE), UPDATE[:HALF])
            assert isinstance(await failure(stalled.call), StalledError)
            silent = Upload(client)
            assert isinstance(await failure(client.push_raw(silent._send())), StalledError)
            monkeypatch.undo()
            assert (await client.held(assignment, UPDATE)).bytes_held == HALF
            await client.push(assignment, UPDATE, offset=HALF)
            await assert_done(system, job_id)

    run(scenario)


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    disk = Disk()

    async def scenario() -> None:
        async with running(tmp_path, disk) as system:
            client, assignment, job_id = await training(system)
            disk.full = True
            error = await failure(client.push(assignment, UPDATE))
            assert isinstance(error, StorageError)
            assert "No space left" in error.message
            disk.full = False
            held = (await client.held(assignment, UPDATE)).bytes_held
            await client.push(assignment, UPDATE, offset=held)
            await assert_done(system, job_id)

    run(scenario)


def test_generated_code_alone_can_fetch_and_push(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            request = pb.FetchModelRequest(session_id=client.session, assignment_id=assignment)
            fetched = [message async for message in client.stub.FetchModel(request)]
            assert fetched[0].header.model.version == 0
            assert b"".join(message.data for message in fetched[1:]) == model_file()
            chunks = [UPDATE[at : at + 50] for at in range(0, len(UPDATE), 50)]
            messages = [client.header(assignment, UPDATE), *(pb.PushUpdateRequest(data=chunk) for chunk in chunks)]
            await client.stub.PushUpdate(stream(messages))
            await assert_done(system, job_id)

    run(scenario)


async def _result(call: Any) -> Any:
    return await call
