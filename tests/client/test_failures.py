"""Learners that raise, die or hang, and how the client gets over it."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import psutil
import pytest

from fedelta.errors import BadRequestError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client.config import TrainerSettings
from fedelta_client.trainer import Trainer
from tests.client.fake import PATIENCE_SECONDS, FakeCoordinator
from tests.client.jobs import model_file, train, train_command, update_file
from tests.client.process import LEARNERS, ClientProcess, started


@pytest.mark.parametrize(
    ("do", "message"), [("raise", "ValueError: lr must be positive"), ("quit", "SystemExit: enough")]
)
def test_what_a_learner_raises_is_reported_and_the_trainer_goes_on(tmp_path: Path, do: str, message: str) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            await client.says("connected")
            pid = client.trainer().pid
            train(fake, do=do)
            failure = await fake.next("ReportFailure")
            assert (failure.kind, failure.message) == (pb.FAILURE_KIND_LEARNER, message)
            assert await client.says("Traceback")
            assert await next_update_comes_from(fake) == pid

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("do", "message"),
    [("exit", "the trainer exited with status 3"), ("die", "the trainer was killed by signal 9 (out of memory?)")],
)
def test_a_trainer_that_dies_is_reported_and_replaced(tmp_path: Path, do: str, message: str) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            await client.says("connected")
            pid = client.trainer().pid
            train(fake, do=do)
            failure = await fake.next("ReportFailure")
            assert (failure.kind, failure.message) == (pb.FAILURE_KIND_TRAINER_DIED, message)
            assert await next_update_comes_from(fake) != pid

    asyncio.run(scenario())


@pytest.mark.parametrize(("kind", "call"), [("TRAIN", "PushUpdate"), ("EVALUATE", "ReportEvaluation")])
def test_a_result_that_the_coordinator_cannot_take_is_given_up(tmp_path: Path, kind: str, call: str) -> None:
    """It has recorded nothing: without a word from the client the round would wait until the lease ends."""

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            fake.refusals[call] = [BadRequestError("metric 'loss' is 1e300, not a finite number in reason")]
            fake.assign(pb.AssignmentKind.Value(f"ASSIGNMENT_KIND_{kind}"), model_file())
            failure = await fake.next("ReportFailure")
            assert (failure.kind, failure.message) == (
                pb.FAILURE_KIND_CLIENT,
                "metric 'loss' is 1e300, not a finite number in reason",
            )

    asyncio.run(scenario())


async def next_update_comes_from(fake: FakeCoordinator) -> int:
    """Pid of the trainer that makes the next update, whose bytes must be right."""
    train(fake, add=0.25)
    header, update = await fake.update()
    assert update == update_file(0.25)
    return int(header.metrics["pid"])


def test_a_model_that_does_not_fit_the_job_is_told_by_tensor(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner="learners:Other"):
            train(fake)
            failure = await fake.next("ReportFailure")
            assert failure.kind == pb.FAILURE_KIND_MODEL_MISMATCH
            assert "'w'" in failure.message

    asyncio.run(scenario())


def test_an_update_that_is_not_finite_is_not_sent(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            train(fake, add=float("nan"))
            failure = await fake.next("ReportFailure")
            assert failure.kind == pb.FAILURE_KIND_LEARNER
            assert "tensor" in failure.message
            assert not fake.uploads

    asyncio.run(scenario())


def test_a_cancelled_learner_is_interrupted_and_the_trainer_goes_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            pid = await hanging(fake, client)
            assert await client.says("stopped: the round has enough updates")
            assert await next_update_comes_from(fake) == pid

    asyncio.run(scenario())


async def hanging(fake: FakeCoordinator, client: ClientProcess) -> int:
    """Has the learner hang, and the coordinator cancel it then. Returns the trainer's pid."""
    assignment = train(fake, do="hang")
    renewal = await fake.next("RenewAssignment")
    while not renewal.progress.fraction:
        renewal = await fake.next("RenewAssignment")
    fake.cancel[assignment.id] = "the round has enough updates"
    return client.trainer().pid


def test_a_learner_that_does_not_stop_is_killed_with_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(LEARNERS, tmp_path)
    (tmp_path / "model").write_bytes(model_file())
    monkeypatch.chdir(tmp_path)

    async def scenario() -> None:
        trainer, _ = await Trainer.start(TrainerSettings(learner="learners:Deaf"))
        trainer.patience = 0.1
        try:
            started_working = asyncio.Event()
            work = asyncio.create_task(trainer.do(train_command(tmp_path), lambda _: started_working.set()))
            await asyncio.wait_for(started_working.wait(), PATIENCE_SECONDS)
            family = psutil.Process().children(recursive=True)
            assert len(family) == 2
            work.cancel()
            await asyncio.wait([work])
            assert work.cancelled()
            gone, alive = psutil.wait_procs(family, timeout=PATIENCE_SECONDS)
            assert (len(gone), alive) == (2, [])
        finally:
            await trainer.close()

    asyncio.run(scenario())


def test_workers_of_a_dead_trainer_go_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            train(fake, do="fork_and_hang")
            renewal = await fake.next("RenewAssignment")
            while not renewal.progress.fraction:
                renewal = await fake.next("RenewAssignment")
            trainer = client.trainer()
            (worker,) = trainer.children()
            os.kill(trainer.pid, signal.SIGKILL)
            failure = await fake.next("ReportFailure")
            assert failure.kind == pb.FAILURE_KIND_TRAINER_DIED
            assert psutil.wait_procs([worker], timeout=PATIENCE_SECONDS)[1] == []

    asyncio.run(scenario())
