"""Transfers that break, stall or arrive damaged."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from fedelta.errors import BusyError, DigestMismatchError, NotFiniteError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import transfer
from fedelta_client.pace import Pace
from fedelta_client.session import Session
from fedelta_client.transfer import Update, fetch_file, push_update
from tests.client.fake import CHUNK, ENDED, FakeCoordinator
from tests.client.jobs import model_file, train, update_file
from tests.client.process import started

LENGTH = len(model_file())
LARGE = np.random.default_rng(3).bytes(5_000_001)


def test_a_download_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator(cut_fetch_at=[2 * CHUNK, 3 * CHUNK + 7]) as fake, started(fake.address, tmp_path):
            train(fake, add=0.5)
            _, update = await fake.update()
            assert update == update_file(0.5)
            assert fake.fetched == [
                (0, 2 * CHUNK),
                (2 * CHUNK, CHUNK + 7),
                (3 * CHUNK + 7, LENGTH - 3 * CHUNK - 7),
            ]

    asyncio.run(scenario())


def test_an_upload_goes_on_where_it_broke_off(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator(cut_push_at=[1], keep_at_cut=100_000) as fake, started(fake.address, tmp_path):
            train(fake, add=0.5)
            header, update = await fake.update()
            assert update == update_file(0.5)
            assert [upload.header.offset for upload in fake.uploads] == [0, 100_000]
            assert fake.uploads[1].received == header.length - 100_000

    asyncio.run(scenario())


def test_an_upload_that_was_accepted_is_not_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator(cut_push_at=[1], accept_at_cut=True) as fake, started(fake.address, tmp_path):
            train(fake)
            await fake.next("GetUploadStatus")
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file())
            await fake.next("ReportEvaluation")
            assert len(fake.uploads) == 1

    asyncio.run(scenario())


def test_a_busy_coordinator_is_asked_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            fake.refusals["PushUpdate"] = [BusyError("no room"), BusyError("no room")]
            train(fake, add=0.5)
            _, update = await fake.update()
            assert update == update_file(0.5)

    asyncio.run(scenario())


def test_a_damaged_model_is_fetched_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator(damage=[LENGTH - 1]) as fake, started(fake.address, tmp_path) as client:
            train(fake, add=0.5)
            _, update = await fake.update()
            assert update == update_file(0.5)
            assert fake.fetched == [(0, LENGTH)] * 2
            assert await client.says("the model arrived damaged; fetching it again")

    asyncio.run(scenario())


def test_a_model_that_never_arrives_whole_fails_the_assignment(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator(damage=[LENGTH - 1] * 10) as fake, started(fake.address, tmp_path):
            train(fake)
            failure = await fake.next("ReportFailure")
            assert failure.kind == pb.FAILURE_KIND_CLIENT
            assert "damaged 3 times" in failure.message

    asyncio.run(scenario())


def test_an_update_that_arrived_damaged_is_sent_again_from_the_start(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            fake.refusals["PushUpdate"] = [DigestMismatchError("other bytes")]
            train(fake, add=0.5)
            header, update = await fake.update()
            assert update == update_file(0.5)
            assert header.offset == 0

    asyncio.run(scenario())


def test_a_refused_update_is_not_sent_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            fake.refusals["PushUpdate"] = [NotFiniteError("tensor 'w' holds NaN")]
            train(fake)
            assert await client.says("refused the result: tensor 'w' holds NaN")
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file())
            await fake.next("ReportEvaluation")
            assert not fake.uploads

    asyncio.run(scenario())


def test_an_assignment_that_ended_is_dropped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            fake.refusals["PushUpdate"] = [ENDED]
            train(fake)
            assert await client.says("dropped: the round is closed")
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file())
            await fake.next("ReportEvaluation")

    asyncio.run(scenario())


def test_a_file_of_many_messages_crosses_both_ways_whole(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE)
    target.write_bytes(b"x" * 6_000_000)
    digest = blake3(LARGE).digest()

    async def scenario() -> None:
        async with FakeCoordinator(cut_push_at=[4 << 20]) as fake, Session(fake.address, "site-1", ["l"]) as session:
            await session.register()
            assignment = fake.assign(pb.ASSIGNMENT_KIND_TRAIN, LARGE)
            await fetch_file(session, assignment, target, Pace())
            assert target.read_bytes() == LARGE
            update = Update(assignment_id=assignment.id, path=source, digest=digest, length=len(LARGE))
            await push_update(session, update, Pace())
            _, received = await fake.update()
            assert received == LARGE
            assert [upload.header.offset for upload in fake.uploads] == [0, 4 << 20]

    asyncio.run(scenario())


def test_a_silent_stream_is_given_up_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "STALL_SECONDS", 0.1)

    async def scenario() -> None:
        async with FakeCoordinator(stalls=1) as fake, Session(fake.address, "site-1", ["l"]) as session:
            await session.register()
            assignment = fake.assign(pb.ASSIGNMENT_KIND_TRAIN, LARGE)
            await fetch_file(session, assignment, tmp_path / "target", Pace())
            assert (tmp_path / "target").read_bytes() == LARGE
            assert fake.stalls == 0

    asyncio.run(scenario())
