"""Jobs that wait for the operator at the site, who answers at the client's terminal or from another one."""

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3
from click.testing import CliRunner, Result

from fedelta.errors import ConfigError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import bell
from fedelta_client.approval import Approval, Approvals, describe
from fedelta_client.cli import client as command
from fedelta_client.policy._hours import DAYS
from fedelta_client.question import Question
from tests.client.fake import FakeCoordinator
from tests.client.jobs import model_file, update_file
from tests.client.process import ClientProcess, started

WAITS = "waits for approval at the site"
DENIED = "was denied at the site"
ASKED = Approval(
    coordinator="localhost:8470",
    job="digits-1",
    job_name="digits",
    learner="digits:Digits",
    rounds=20,
    train={"lr": 0.1},
    model_arguments={"hidden": 32},
)


def asked(**changes: Any) -> Approval:
    return Approval(**{**{name: getattr(ASKED, name) for name in ASKED.__struct_fields__}, **changes})


@asynccontextmanager
async def site(
    where: Path, terminal: int | None = None, port: int = 0, *more: str
) -> AsyncIterator[tuple[FakeCoordinator, ClientProcess]]:
    """A client whose operator is asked, and its coordinator."""
    options = ("--approve", "--spool", str(where / "spool"), *more)
    async with FakeCoordinator(port=port) as fake, started(fake.address, where, *options, terminal=terminal) as client:
        await fake.next("Register")
        yield fake, client


def offer(fake: FakeCoordinator, job: str = "job-1", add: float = 0.5, rounds: int = 3, **fields: Any) -> None:
    more = {"config_json": json.dumps({"add": add}), "rounds_max": rounds, **fields}
    fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), job_id=job, job_name="n", **more)


async def declined(fake: FakeCoordinator) -> str:
    failure = await fake.next("ReportFailure")
    assert (failure.kind, failure.HasField("retry_after")) == (pb.FAILURE_KIND_DECLINED, False)
    return str(failure.message)


def at(where: Path, *words: str) -> Result:
    """What a command in another terminal says."""
    return CliRunner().invoke(command, [*words, "--spool", str(where / "spool")])


def test_a_job_waits_until_it_is_approved_from_another_terminal(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as (fake, client):
            offer(fake)
            assert await declined(fake) == WAITS
            assert fake.fetched == []
            assert await client.says("job-1 waits for approval; `fedelta client approve job-1` gives it")
            assert "decision           waiting" in at(tmp_path, "approvals").stdout
            approved = at(tmp_path, "approve", "job-1")
            assert (approved.exit_code, approved.stdout.splitlines()[-1]) == (0, "approved")
            # It is offered anew because the client registers again, of its own accord.
            assert (await fake.next("Register")).session_id == fake.registered[0].session_id
            offer(fake)
            _, update = await fake.update()
            assert update == update_file(0.5)
            offer(fake, job="job-2")
            assert await declined(fake) == WAITS

    asyncio.run(scenario())


def test_an_approval_outlives_the_client_and_covers_what_was_approved(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with site(tmp_path) as (fake, client):
            port = fake.port
            offer(fake)
            assert await declined(fake) == WAITS
            client.signal(signal.SIGTERM)
            await client.exits()
        assert at(tmp_path, "approve", "job-1").stdout.endswith(
            "approved; the client does not run now, it will know when it starts\n"
        )
        async with site(tmp_path, port=port) as (fake, _):
            offer(fake, rounds=2)
            await fake.update()
            offer(fake, add=0.25)
            assert await declined(fake) == WAITS
            assert at(tmp_path, "deny", "job-1").exit_code == 0
            await fake.next("Register")
            offer(fake, add=0.25)
            assert await declined(fake) == DENIED

    asyncio.run(scenario())


def test_an_approval_is_of_the_plan_as_well(tmp_path: Path) -> None:
    """Its parts decide what leaves the site beside the update, such as the loss on the local data."""
    approvals = Approvals(tmp_path)
    approvals.decide(ASKED, "approved")
    assert approvals.decision(ASKED) == "approved"
    planned = asked(plan={"facts": ["loss"]})
    assert approvals.decision(planned) == "waiting"
    assert any('{"facts": ["loss"]}' in line for line in describe(planned))


def test_approvals_from_before_there_were_plans_still_hold() -> None:
    """What the digest was then: of learner, [train] and [model.arguments]."""
    words = json.dumps(["digits:Digits", {"lr": 0.1}, {"hidden": 32}], sort_keys=True)
    assert ASKED.digest == blake3(words.encode()).hexdigest()


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """The operator's end of a terminal, and the client's."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        for end in (ours, theirs):
            try:
                os.close(end)
            except OSError:
                continue  # the test has closed it


def test_an_operator_at_the_terminal_is_asked_and_other_jobs_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        with terminal() as (operator, theirs):
            async with site(tmp_path, theirs) as (fake, client):
                offer(fake)
                assert await declined(fake) == WAITS
                assert await client.says(f"job job-1 (n) of coordinator {fake.address} asks to work here")
                assert await client.says('[train]            {"add": 0.5}')
                offer(fake, job="job-2")
                assert await declined(fake) == WAITS
                os.write(operator, b"perhaps\n")
                os.write(operator, b"yes\n")
                await fake.next("Register")
                assert await client.says("please answer yes or no")
                offer(fake)
                await fake.update()
                assert await client.says("job job-2 (n) of coordinator")
                os.write(operator, b"n\n")
                await fake.next("Register")
                offer(fake, job="job-2")
                assert await declined(fake) == DENIED

    asyncio.run(scenario())


def test_a_question_that_was_answered_elsewhere_is_not_asked_any_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        with terminal() as (operator, theirs):
            async with site(tmp_path, theirs) as (fake, client):
                offer(fake)
                await declined(fake)
                offer(fake, job="job-2")
                await declined(fake)
                assert at(tmp_path, "approve", "job-1").exit_code == 0
                await fake.next("Register")
                assert await client.says("job job-2 (n) of coordinator")
                os.write(operator, b"n\n")
                await fake.next("Register")
                offer(fake)
                await fake.update()
                offer(fake, job="job-2")
                assert await declined(fake) == DENIED

    asyncio.run(scenario())


def test_an_answer_is_no_answer_to_what_the_job_asks_by_then(tmp_path: Path) -> None:
    approvals, changed = Approvals(tmp_path), asked(train={"lr": 100})
    question = Question(approvals, on_answer=lambda: pytest.fail("nothing was decided"))
    approvals.decision(ASKED)
    question.ask(ASKED)
    approvals.decision(changed)
    question.answer("yes\n")
    assert approvals.all() == [changed]


def test_operators_are_asked_outside_of_the_hours_but_not_about_what_is_refused_for_good(tmp_path: Path) -> None:
    in_three_days = DAYS[(datetime.now().astimezone().weekday() + 3) % 7]
    policy = tmp_path / "policy.toml"
    policy.write_text(f'[[hours]]\ndays = ["{in_three_days}"]\n[train.add]\nmax = 1\n')

    async def scenario() -> None:
        async with site(tmp_path, None, 0, "--policy", str(policy)) as (fake, _):
            offer(fake, job="never", add=2)
            assert "train.add = 2" in await declined(fake)
            offer(fake)
            assert await declined(fake) == WAITS
            assert [each.job for each in Approvals(tmp_path / "spool" / "approvals").all()] == ["job-1"]
            at(tmp_path, "approve", "job-1")
            await fake.next("Register")
            offer(fake)
            assert (await fake.next("ReportFailure")).HasField("retry_after")

    asyncio.run(scenario())


def test_a_client_ends_with_its_terminal(tmp_path: Path) -> None:
    async def scenario() -> None:
        with terminal() as (operator, theirs):
            async with site(tmp_path, theirs) as (fake, client):
                await client.says("connected")
                os.close(theirs)
                os.close(operator)
                assert await client.exits() == 0
                await fake.next("Leave")
            assert not [line for line in client.said if "Traceback" in line]

    asyncio.run(scenario())


def test_what_differs_from_what_was_decided_on_waits_again(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path)
    assert approvals.decision(ASKED) == "waiting"
    approvals.decide(ASKED, "approved")
    assert Approvals(tmp_path).decision(ASKED) == "approved"
    for same in (asked(rounds=19), asked(job_name="other")):
        assert approvals.decision(same) == "approved"
    for other in (
        asked(coordinator="elsewhere:8470"),
        asked(job="digits-2"),
        asked(rounds=21),
        asked(learner="digits:Other"),
        asked(train={"lr": 0.2}),
        asked(train={"lr": "0.1"}),
        asked(model_arguments={}),
    ):
        assert approvals.decision(other) == "waiting"
        approvals.decide(ASKED, "approved")


def test_a_decision_about_what_the_job_no_longer_asks_is_worth_nothing(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path)
    approvals.decision(ASKED)
    shown = approvals.find("digits-1")
    changed = asked(train={"lr": 100})
    assert approvals.decision(changed) == "waiting"
    approvals.decide(shown, "approved")
    assert approvals.decision(changed) == "waiting"


def test_jobs_of_one_id_are_told_apart_by_their_coordinators(tmp_path: Path) -> None:
    approvals = Approvals(tmp_path)
    other = asked(coordinator="elsewhere:8470")
    approvals.decision(ASKED)
    approvals.decision(other)
    with pytest.raises(ConfigError, match="say which with --server"):
        approvals.find("digits-1")
    assert approvals.find("digits-1", "elsewhere:8470") == other
    with pytest.raises(ConfigError, match="no job 'digits-2' has asked at this client"):
        approvals.find("digits-2")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"decision": "approved"}', b"\xff"])
def test_a_file_that_makes_no_sense_approves_nothing(tmp_path: Path, content: bytes) -> None:
    approvals = Approvals(tmp_path)
    approvals.decide(ASKED, "approved")
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert approvals.decision(ASKED) == "waiting"


@pytest.mark.parametrize("job", ["../../../etc/x", "a/b", "a b", "\x1b[2J"])
def test_names_from_the_coordinator_stay_in_the_folder_and_off_the_terminal(tmp_path: Path, job: str) -> None:
    folder = tmp_path / "approvals"
    hostile = asked(job=job, job_name="\x1b]0;x\x07", train={"\x1b": "\x1b"})
    assert Approvals(folder).decision(hostile) == "waiting"
    assert [path.parent for path in tmp_path.rglob("*") if path.is_file()] == [folder]
    assert Approvals(folder).find(job) == hostile
    assert all(line.isprintable() for line in describe(hostile))


def test_nobody_hears_a_bell_without_a_client(tmp_path: Path) -> None:
    assert not bell.ring(tmp_path)

    async def scenario() -> None:
        rung = asyncio.Event()
        with bell.answered(tmp_path, rung.set):
            assert bell.ring(tmp_path)
            await asyncio.wait_for(rung.wait(), 20)

    asyncio.run(scenario())
    assert not bell.ring(tmp_path)
