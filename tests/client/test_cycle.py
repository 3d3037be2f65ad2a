"""One assignment after another: what the coordinator gets, byte for byte."""

import asyncio
from pathlib import Path

from fedelta.v1 import coordinator_pb2 as pb
from tests.client.fake import FakeCoordinator
from tests.client.jobs import B, model_file, train, update_file
from tests.client.process import started


def test_initialize_train_and_evaluate(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            assert await client.says("connected") == f"client site-1 connected to {fake.address}"
            assert list(fake.registered[0].learners) == ["learners:Scripted"]

            fake.assign(pb.ASSIGNMENT_KIND_INITIALIZE)
            header, initial = await fake.update()
            assert (header.examples, header.length) == (0, len(initial))
            assert initial == model_file()

            train(fake, add=0.5, examples=11)
            trained, update = await fake.update()
            assert update == update_file(0.5)
            assert trained.examples == 11

            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file(b=B + 1), round=8)
            evaluation = await fake.next("ReportEvaluation")
            assert (evaluation.examples, evaluation.metrics["sum"], evaluation.metrics["round"]) == (9, 10.0, 8.0)
            assert evaluation.metrics["pid"] == trained.metrics["pid"] == client.trainer().pid

    asyncio.run(scenario())


def test_a_version_is_fetched_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            for version in range(3):
                model = model_file(b=B + version)
                fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model)
                await fake.next("ReportEvaluation")
                fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model)
                await fake.update()
            assert fake.fetched == [(0, len(model_file()))] * 3

    asyncio.run(scenario())


def test_the_trainer_has_no_grpc_and_one_thread(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            train(fake, do="print")
            header, _ = await fake.update()
            assert (header.metrics["grpc"], header.metrics["torch"], header.metrics["threads"]) == (0, 0, 1)
            assert await client.says("hello from site-1")

    asyncio.run(scenario())


def test_threads_are_as_many_as_asked_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, "--threads", "3"):
            train(fake)
            header, _ = await fake.update()
            assert header.metrics["threads"] == 3

    asyncio.run(scenario())


def test_progress_reaches_the_coordinator_without_what_json_cannot_say(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            train(fake, do="hang")
            renewal = await fake.next("RenewAssignment")
            while not renewal.progress.fraction:
                renewal = await fake.next("RenewAssignment")
            assert (renewal.progress.fraction, dict(renewal.progress.metrics)) == (0.5, {"loss": 1.5})

    asyncio.run(scenario())
