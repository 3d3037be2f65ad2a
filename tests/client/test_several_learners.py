"""A client that offers several learners: a trainer for each, and each on its own."""

import asyncio
import logging
import shutil
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import runtime, trainer
from fedelta_client.assignment import Worker
from fedelta_client.config import TrainerSettings
from fedelta_client.courier import Courier
from fedelta_client.gate import Gate
from fedelta_client.ledger import Ledger
from fedelta_client.runtime import Client, TrainerKeepsDyingError
from fedelta_client.session import Session
from fedelta_client.spool import Spool
from fedelta_client.stop import Stop
from fedelta_client.trainers import Trainers
from tests.client.fake import PATIENCE_SECONDS, FakeCoordinator
from tests.client.jobs import model_file, train, train_command, update_file
from tests.client.process import LEARNERS, started

SCRIPTED, COUNTING, NUMBERS = "learners:Scripted", "learners:Counting", "learners:Numbers"
DEAF = "learners:Deaf"
ALSO_COUNTING = ("--learner", COUNTING)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the learners, as working directory."""
    shutil.copy(LEARNERS, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def trained_by(fake: FakeCoordinator, learner: str) -> int:
    """Pid of the trainer that does a learner's next assignment, whose update must be right."""
    train(fake, learner=learner, add=0.5)
    header, update = await fake.update()
    assert update == update_file(0.5)
    assert ("count" in header.metrics) == (learner == COUNTING)
    return int(header.metrics["pid"])


def test_each_learner_has_a_trainer_of_its_own_that_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = (*ALSO_COUNTING, "--learner", NUMBERS)
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options) as client:
            await client.says("connected")
            assert list(fake.registered[0].learners) == [SCRIPTED, COUNTING, "numbers"]
            pids = {trainer.pid for trainer in client.trainers()}
            assert len(pids) == 3
            did = [await trained_by(fake, learner) for learner in (SCRIPTED, COUNTING, "numbers") * 2]
            assert did[:3] == did[3:]
            assert set(did) == pids

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("learners", "error"),
    [
        ([SCRIPTED, SCRIPTED], f"learner {SCRIPTED} is given twice; give it once, or run a second client"),
        (
            [NUMBERS, "learners:MoreNumbers"],
            "learners:Numbers and learners:MoreNumbers are both called 'numbers'; give one of the classes another",
        ),
        ([SCRIPTED, "learners:NoData"], "learner learners:NoData cannot be loaded: FileNotFoundError: no train.csv"),
        (["nowhere:Learner", "learners:Slow"], "learner nowhere:Learner cannot be loaded: no module 'nowhere'"),
    ],
)
def test_a_learner_that_cannot_be_offered_is_named_at_once(tmp_path: Path, learners: list[str], error: str) -> None:
    async def scenario() -> None:
        first, second = learners
        async with (
            FakeCoordinator() as fake,
            started(fake.address, tmp_path, "--learner", second, learner=first) as client,
        ):
            assert await client.exits() == 2
            assert error in client.said[-1]
            assert not fake.registered

    asyncio.run(scenario())


def test_a_learner_that_is_not_offered_is_not_done(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *ALSO_COUNTING):
            train(fake, learner=NUMBERS)
            failure = await fake.next("ReportFailure")
            assert failure.kind == pb.FAILURE_KIND_CLIENT
            assert failure.message == f"this client has no learner {NUMBERS!r}; it offers {SCRIPTED}, {COUNTING}"

    asyncio.run(scenario())


def test_an_idle_trainer_that_dies_is_replaced_for_its_learner_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *ALSO_COUNTING) as client:
            before = {learner: await trained_by(fake, learner) for learner in (SCRIPTED, COUNTING)}
            train(fake, learner=SCRIPTED, do="wait", add=0.5)
            await fake.next("RenewAssignment")
            psutil.Process(before[COUNTING]).kill()
            (tmp_path / "go").touch()
            header, update = await fake.update()
            assert (header.metrics["pid"], update) == (before[SCRIPTED], update_file(0.5))
            assert await trained_by(fake, COUNTING) != before[COUNTING]
            assert await trained_by(fake, SCRIPTED) == before[SCRIPTED]
            assert len(client.trainers()) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGKILL]])
def test_no_trainer_outlives_the_client(tmp_path: Path, signals: list[signal.Signals]) -> None:
    """Whether it drains, hurries or is killed, and whether they are at work or idle."""

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *ALSO_COUNTING) as client:
            await client.says("connected")
            trainers = client.trainers()
            assert len(trainers) == 2
            if len(signals) > 1:
                train(fake, learner=COUNTING, do="sleep")
                await client.says("asleep")
            for number in signals:
                client.signal(number)
                if len(signals) > 1:
                    await client.says("press Ctrl-C again")
            assert psutil.wait_procs(trainers, timeout=PATIENCE_SECONDS)[1] == []
            await client.exits()

    asyncio.run(scenario())


@asynccontextmanager
async def client_here(
    where: Path, learners: Sequence[str]
) -> AsyncIterator[tuple[FakeCoordinator, asyncio.Task[None]]]:
    """A client with real trainers in this process, and its coordinator."""
    trainers = Trainers([TrainerSettings(learner=each) for each in learners])
    try:
        offered = [ready.learner for ready in await trainers.start()]
        with Spool(where / "spool") as spool, Ledger(spool.ledger, "here") as ledger:
            gate = Gate(spool, ledger, "here")
            async with FakeCoordinator() as fake, Session(fake.address, "site-1", offered) as session:
                await session.register()
                worker = Worker(Courier(session, ledger), gate, spool, trainers)
                client = Client(session, worker, Stop(on_hurry=trainers.hurry, on_reread=gate.reread))
                running = asyncio.create_task(client.run())
                try:
                    yield fake, running
                finally:
                    running.cancel()
                    await asyncio.wait([running])
    finally:
        await trainers.close()


async def dies(fake: FakeCoordinator, learner: str) -> None:
    """An assignment of the learner kills its trainer."""
    train(fake, learner=learner, do="die")
    assert (await fake.next("ReportFailure")).kind == pb.FAILURE_KIND_TRAINER_DIED


def test_a_learner_that_kills_its_trainer_every_time_is_offered_no_more(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Errors that pytest keeps with what was logged would keep the session alive.
    caplog.set_level(logging.CRITICAL, "fedelta.client")
    monkeypatch.setattr(runtime, "FIRST_RECOVERY_SECONDS", 0.001)
    monkeypatch.setattr(runtime, "MOST_DEATHS", 2)

    async def scenario() -> None:
        async with client_here(project, [SCRIPTED, COUNTING]) as (fake, running):
            await dies(fake, SCRIPTED)
            await trained_by(fake, COUNTING)
            await dies(fake, SCRIPTED)
            # What the other learner did in between does not count for this one.
            assert [list((await fake.next("Register")).learners) for _ in range(2)] == [
                [SCRIPTED, COUNTING],
                [COUNTING],
            ]
            await dies(fake, COUNTING)
            # What it did well counts: it is two in a row that are too many.
            await trained_by(fake, COUNTING)
            await dies(fake, COUNTING)
            await dies(fake, COUNTING)
            with pytest.raises(TrainerKeepsDyingError, match=f"{COUNTING} died in 2 assignments in a row"):
                await asyncio.wait_for(running, PATIENCE_SECONDS)

    asyncio.run(scenario())


def test_in_a_hurry_trainers_are_not_asked_to_stop(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "INTERRUPT_SECONDS", 1000.0)
    (project / "model").write_bytes(model_file())

    async def scenario() -> None:
        trainers = Trainers([TrainerSettings(learner=each) for each in (DEAF, SCRIPTED)])
        try:
            await trainers.start()
            deaf, working = await trainers.get(DEAF), asyncio.Event()
            work = asyncio.create_task(deaf.do(train_command(project), lambda _: working.set()))
            await asyncio.wait_for(working.wait(), PATIENCE_SECONDS)
            trainers.hurry()
            work.cancel()
            done, _ = await asyncio.wait([work], timeout=PATIENCE_SECONDS)
            assert done == {work}
        finally:
            await trainers.close()

    asyncio.run(scenario())


def test_labels_are_registered(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = ("--label", "site=north", "--label", "gpu")
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options):
            assert (await fake.next("Register")).labels == {"site": "north", "gpu": ""}

    asyncio.run(scenario())


def test_learners_of_a_file_have_data_and_threads_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    for folder in ("common", "own"):
        (tmp_path / folder).mkdir()

    async def scenario() -> None:
        options = ("--config", "site.toml")
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options, learner="") as client:
            for learner, threads, data in ((SCRIPTED, 2, "common"), (COUNTING, 3, "own")):
                train(fake, learner=learner, do="print")
                assert (await fake.update())[0].metrics["threads"] == threads
                await client.says(f"hello from site-1 with {data}")

    asyncio.run(scenario())


SITE = f"""
data = "common"
threads = 2

[[learners]]
learner = "{SCRIPTED}"

[[learners]]
learner = "{COUNTING}"
data = "own"
threads = 3
"""
