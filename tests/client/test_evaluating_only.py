"""A client with held-out data: it evaluates and never trains, whatever a coordinator asks."""

import asyncio
from pathlib import Path

from fedelta.v1 import coordinator_pb2 as pb
from tests.client.fake import FakeCoordinator
from tests.client.jobs import model_file, train
from tests.client.process import started


def test_it_says_so_and_declines_to_train(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, "--evaluate-only"):
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file(), round=3)
            await fake.next("ReportEvaluation")
            for offer in (train, lambda fake: fake.assign(pb.ASSIGNMENT_KIND_INITIALIZE)):
                offer(fake)
                failure = await fake.next("ReportFailure")
                assert (failure.kind, failure.message) == (pb.FAILURE_KIND_DECLINED, "this client evaluates only")
            assert [each.evaluates_only for each in fake.registered] == [True]
            assert fake.uploads == []

    asyncio.run(scenario())


def test_others_do_not_say_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            train(fake)
            await fake.update()
            assert [each.evaluates_only for each in fake.registered] == [False]

    asyncio.run(scenario())
