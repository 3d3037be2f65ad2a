"""A client that is killed and started again: it goes on with what it had."""

import asyncio
import json
import signal
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fedelta.errors import BusyError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import takeover
from fedelta_client.cli import client as command
from fedelta_client.takeover import SessionFile
from tests.client.fake import PATIENCE_SECONDS, FakeCoordinator
from tests.client.jobs import model_file
from tests.client.process import ClientProcess, started

UNLIKE = "learners:Unlike"
HELD = 100_000


def again(fake: FakeCoordinator, kind: "pb.AssignmentKind.ValueType" = pb.ASSIGNMENT_KIND_TRAIN, **other: Any) -> None:
    """Hands out the same assignment, whenever it is called."""
    model = b"" if kind == pb.ASSIGNMENT_KIND_INITIALIZE else model_file()
    fake.assign(kind, model, **{"id": "first", "round": 2, **other})


def client(fake: FakeCoordinator, where: Path, *options: str) -> AbstractAsyncContextManager[ClientProcess]:
    return started(fake.address, where, "--spool", str(where / "spool"), *options, learner=UNLIKE)


async def killed(process: ClientProcess) -> None:
    process.signal(signal.SIGKILL)
    await process.exits()


async def killed_while_sending(fake: FakeCoordinator, where: Path, kind: "pb.AssignmentKind.ValueType") -> bytes:
    """What it made, of which the coordinator holds a part and has acknowledged nothing."""
    fake.hang_push = True
    async with client(fake, where) as process:
        again(fake, kind)
        _, made = await fake.update()
        await killed(process)
    del fake._held["first"][HELD:]
    fake.hang_push = False
    return made


def worked(where: Path) -> list[str]:
    """What the learner did, in order."""
    return (where / "worked").read_text().split()


def left(where: Path, kind: str) -> list[dict[str, Any]]:
    """What of this kind left the site, as its log shows it."""
    told = CliRunner().invoke(command, ["log", "--spool", str(where / "spool"), "--json"])
    return [each for each in json.loads(told.stdout)["left"] if each["kind"] == kind]


@pytest.mark.parametrize(
    ("kind", "name"), [(pb.ASSIGNMENT_KIND_TRAIN, "update"), (pb.ASSIGNMENT_KIND_INITIALIZE, "model")]
)
def test_what_was_made_is_sent_on_and_not_made_again(
    tmp_path: Path, kind: "pb.AssignmentKind.ValueType", name: str
) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            made = await killed_while_sending(fake, tmp_path, kind)
            async with client(fake, tmp_path) as process:
                again(fake, kind)
                header, whole = await fake.update()
                assert whole == made
                assert header.offset == HELD
                await fake.next("NextAssignment")
                process.signal(signal.SIGTERM)
                assert await process.exits() == 0
            assert await process.says("was finished before this client was started again")
            if kind == pb.ASSIGNMENT_KIND_TRAIN:
                assert worked(tmp_path) == ["train"]

    asyncio.run(scenario())
    (sent,) = left(tmp_path, name)
    assert (sent["fate"], sent["bytes_sent"]) == ("acknowledged", sent["bytes"])


def test_an_evaluation_is_reported_and_not_made_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            fake.refusals["ReportEvaluation"] = [BusyError("not now")] * 1000
            async with client(fake, tmp_path, "-v") as process:
                again(fake, pb.ASSIGNMENT_KIND_EVALUATE)
                await process.says("busy; the next try is in")
                await killed(process)
            fake.refusals.clear()
            async with client(fake, tmp_path):
                again(fake, pb.ASSIGNMENT_KIND_EVALUATE)
                assert (await fake.next("ReportEvaluation")).metrics["sum"] == 6.0
                assert worked(tmp_path) == ["evaluate"]

    asyncio.run(scenario())
    assert len(left(tmp_path, "evaluation")) == 1


@pytest.mark.parametrize(
    "name", ["update.safetensors", "finished.json", "states/job-1@learners%3AUnlike.pending/first.safetensors"]
)
def test_what_is_not_there_any_more_is_made_again(tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            made = await killed_while_sending(fake, tmp_path, pb.ASSIGNMENT_KIND_TRAIN)
            (tmp_path / "spool" / name).unlink()
            async with client(fake, tmp_path):
                again(fake)
                header, whole = await fake.update()
                assert (header.offset, worked(tmp_path)) == (0, ["train", "train"])
                assert whole != made

    asyncio.run(scenario())


def test_what_was_made_needs_no_model_again(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(f"[limits]\ndownload_bytes_per_day = {len(model_file())}\n")

    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            made = await killed_while_sending(fake, tmp_path, pb.ASSIGNMENT_KIND_TRAIN)
            async with client(fake, tmp_path, "--policy", str(policy)):
                again(fake)
                assert (await fake.update())[1] == made
                assert len(fake.fetched) == 1

    asyncio.run(scenario())


def test_what_the_site_refuses_by_now_stays_there(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[limits]\nmin_examples = 6\n")

    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            await killed_while_sending(fake, tmp_path, pb.ASSIGNMENT_KIND_TRAIN)
            async with client(fake, tmp_path, "--policy", str(policy)):
                again(fake)
                assert (await fake.next("ReportFailure")).kind == pb.FAILURE_KIND_DECLINED
                assert (len(fake.uploads), worked(tmp_path)) == (1, ["train"])

    asyncio.run(scenario())


def test_the_session_of_a_killed_client_is_taken_over_and_that_of_one_that_left_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
                async with client(fake, tmp_path) as process:
                    await fake.next("NextAssignment")
                    process.signal(end)
                    await process.exits()
            first, second, third = (request.session_id for request in fake.registered)
            assert first == second != third

    asyncio.run(scenario())


def test_a_session_is_taken_over_only_by_the_same_client_on_the_same_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("this one\n")
    monkeypatch.setattr(takeover, "_BOOT", boot)
    file = SessionFile(tmp_path / "session.json")
    mine = file.open("site-1", "here:8470")
    assert file.open("site-1", "here:8470") == mine
    others = [file.open("site-2", "here:8470"), file.open("site-1", "there:8470"), file.open("site-1", "here:8470")]
    boot.write_text("another one\n")
    others.append(file.open("site-1", "here:8470"))
    boot.unlink()
    others += [file.open("site-1", "here:8470"), file.open("site-1", "here:8470")]
    assert len({mine, *others}) == 7


def test_a_short_assignment_is_seen_to_go_on_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        # Renewals are minutes apart: only the first one comes while anybody waits for it.
        async with FakeCoordinator(liveness_seconds=3600) as fake, client(fake, tmp_path):
            assignment = fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), config_json='{"do": "hang"}')
            assignment.lease.FromSeconds(round(100 * PATIENCE_SECONDS))
            assert (await fake.next("RenewAssignment")).progress.fraction == 0.5

    asyncio.run(scenario())
