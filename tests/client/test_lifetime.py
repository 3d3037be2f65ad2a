"""Start, loss of the coordinator, and the end."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fedelta.errors import NameInUseError, ProtocolMismatchError, UnknownSessionError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import runtime
from fedelta_client.session import Session
from tests.client.fake import PATIENCE_SECONDS, FakeCoordinator
from tests.client.jobs import model_file, train, update_file
from tests.client.process import ClientProcess, started

TAKEN = NameInUseError("'site-1' is in use by another process")


def test_the_runtime_does_not_import_torch_nor_numpy() -> None:
    code = "import sys, fedelta_client.cli, fedelta_client.runtime; print({'torch', 'numpy'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize(
    ("learner", "options", "error"),
    [
        ("learners:Missing", [], "has no class 'Missing'"),
        ("nowhere:Learner", [], "no module 'nowhere'"),
        ("learners:NoData", [], "no train.csv in /"),
        ("learners:Scripted", ["--data", "nowhere"], "'nowhere' does not exist"),
        ("learners:Scripted", ["--name", "a b"], "'a b' is no client name"),
        ("learners:Scripted", ["--server", "local host"], "'local host' is not an address"),
    ],
)
def test_a_wrong_command_line_ends_at_once_with_code_2(
    tmp_path: Path, learner: str, options: list[str], error: str
) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options, learner=learner) as client:
            assert await client.exits() == 2
            assert error in client.said[-1]
            assert not fake.registered

    asyncio.run(scenario())


def test_a_coordinator_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            await fake.stop()
            async with started(fake.address, tmp_path) as client:
                await client.says(f"no coordinator answers at {fake.address}")
                await fake.start()
                await client.says("connected")
                await client.says(f"coordinator {fake.address} answers again")
                assert sum("no coordinator answers" in line for line in client.said) == 1

    asyncio.run(scenario())


def test_training_outlives_a_restart_of_the_coordinator(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            train(fake, do="wait", add=0.5)
            await fake.next("RenewAssignment")
            await fake.stop()
            await client.says("no coordinator answers")
            await fake.start()
            await fake.next("RenewAssignment")
            (tmp_path / "go").touch()
            header, update = await fake.update()
            assert update == update_file(0.5)
            assert {request.session_id for request in fake.registered} == {header.session_id}
            assert len(fake.registered) == 2

    asyncio.run(scenario())


def test_a_forgotten_session_is_registered_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            fake.refusals["ReportEvaluation"] = [UnknownSessionError("who?")]
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file())
            report = await fake.next("ReportEvaluation")
            assert [request.session_id for request in fake.registered] == [report.session_id] * 2

    asyncio.run(scenario())


def test_a_name_that_lapses_is_taken_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            fake.refusals["Register"] = [TAKEN]
            async with started(fake.address, tmp_path) as client:
                await client.says("connected")
                assert len(fake.registered) == 2

    asyncio.run(scenario())


def test_a_name_that_stays_taken_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "NAME_SECONDS", 0.1)
    monkeypatch.setattr(runtime, "NAME_RETRY_SECONDS", 0.05)

    async def scenario() -> None:
        async with FakeCoordinator() as fake, Session(fake.address, "site-1", ["l"]) as session:
            fake.refusals["Register"] = [TAKEN] * 10
            with pytest.raises(NameInUseError, match="give this one another --name"):
                await runtime._register(session)
            assert len(fake.registered) > 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("method", "error"), [("NextAssignment", TAKEN), ("Register", ProtocolMismatchError("speaks 2 to 3"))]
)
def test_what_cannot_get_better_ends_the_client(
    tmp_path: Path, method: str, error: NameInUseError | ProtocolMismatchError
) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            fake.refusals[method] = [error]
            async with started(fake.address, tmp_path) as client:
                assert await client.exits() == 5
                assert error.message in client.said[-1]

    asyncio.run(scenario())


def test_two_processes_cannot_share_a_spool(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as first:
            await first.says("connected")
            async with started(fake.address, tmp_path) as second:
                assert await second.exits() == 5
                assert "another client process on this machine" in second.said[-1]

    asyncio.run(scenario())


def test_an_idle_client_leaves_at_the_first_signal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            await fake.next("NextAssignment")
            client.signal(signal.SIGTERM)
            assert await client.exits() == 0
            assert (await fake.next("Leave")).session_id == fake.registered[0].session_id

    asyncio.run(scenario())


async def waiting(fake: FakeCoordinator, client: ClientProcess) -> None:
    """The learner is at work, until the test makes the file "go"."""
    train(fake, do="wait", add=0.5)
    renewal = await fake.next("RenewAssignment")
    while not renewal.progress.fraction:
        renewal = await fake.next("RenewAssignment")
    client.signal(signal.SIGINT)
    await client.says("finishing the assignment; press Ctrl-C again to stop now")


def test_the_first_signal_lets_the_assignment_finish(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            await waiting(fake, client)
            (tmp_path / "go").touch()
            _, update = await fake.update()
            assert update == update_file(0.5)
            assert await client.exits() == 0
            await fake.next("Leave")

    asyncio.run(scenario())


@pytest.mark.parametrize(("second", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_hands_the_assignment_back(tmp_path: Path, second: signal.Signals, code: int) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            await waiting(fake, client)
            trainer = client.trainer()
            client.signal(second)
            assert (await fake.next("ReportFailure")).kind == pb.FAILURE_KIND_RETURNED
            await fake.next("Leave")
            assert await client.exits() == code
            assert not trainer.is_running()

    asyncio.run(scenario())


def test_the_trainer_does_not_outlive_a_killed_client(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path) as client:
            train(fake, do="sleep")
            await client.says("asleep")
            trainer = client.trainer()
            os.kill(client.process.pid, signal.SIGKILL)
            assert psutil.wait_procs([trainer], timeout=PATIENCE_SECONDS)[1] == []

    asyncio.run(scenario())
