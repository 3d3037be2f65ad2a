"""What a learner keeps from one assignment to the next, and when."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from fedelta.errors import FedeltaError, NotFiniteError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client.spool import Spool
from tests.client.fake import ENDED, FakeCoordinator
from tests.client.jobs import model_file
from tests.client.process import started

COUNTING, COUNTING_TOO = "learners:Counting", "learners:CountingToo"


async def count_of(fake: FakeCoordinator, **assigned: Any) -> float:
    """Has the client train; returns which of its trainings the learner says it is."""
    fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), **assigned)
    header, _ = await fake.update()
    return float(header.metrics["count"])


async def asked(fake: FakeCoordinator) -> list[str]:
    """The assignments that the client asks about next."""
    return list((await fake.next("NextAssignment")).unsettled_assignment_ids)


def test_a_state_counts_once_its_update_is_folded(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=COUNTING):
            assert await asked(fake) == []
            assert await count_of(fake, id="first", round=1) == 1
            assert await asked(fake) == ["first"]
            fake.fates["first"] = True
            assert await count_of(fake, id="second", round=2) == 2
            assert await asked(fake) == ["second"]
            fake.fates["second"] = False
            assert await count_of(fake, id="third", round=3) == 2
            assert await asked(fake) == ["third"]

    asyncio.run(scenario())


def test_a_learner_without_durable_state_has_nothing_to_ask(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path):
            assert await asked(fake) == []
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file())
            await fake.update()
            assert await asked(fake) == []

    asyncio.run(scenario())


def test_each_job_has_a_state_of_its_own(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=COUNTING):
            fake.fates |= {"one": True, "two": True, "three": True}
            assert await count_of(fake, id="one", job_id="a-1", round=2) == 1
            assert await count_of(fake, id="two", job_id="b-1", round=2) == 1
            assert await count_of(fake, id="three", job_id="a-1", round=3) == 2

    asyncio.run(scenario())


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("job", ["job-1", "a.b_C-1.pending", "../../job"])
def test_the_coordinator_is_asked_again_after_a_restart_of_the_client(tmp_path: Path, job: str, folded: bool) -> None:
    async def scenario() -> None:
        first, second = f"{job}.2.1.train.site-1", f"{job}.3.1.train.site-1"
        async with FakeCoordinator() as fake:
            async with started(fake.address, tmp_path, learner=COUNTING) as client:
                assert await asked(fake) == []
                assert await count_of(fake, id=first, job_id=job, round=2) == 1
                assert await asked(fake) == [first]
                client.signal(signal.SIGKILL)
                await client.exits()
            async with started(fake.address, tmp_path, learner=COUNTING) as client:
                assert await asked(fake) == [first]
                fake.fates[first] = folded
                assert await count_of(fake, id=second, job_id=job, round=3) == (2 if folded else 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("error", [ENDED, NotFiniteError("'w' holds NaN")])
def test_the_coordinator_is_asked_even_where_it_seems_to_refuse(tmp_path: Path, error: FedeltaError) -> None:
    """The acknowledgement of an earlier try may have been lost: only the coordinator knows what counts."""

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=COUNTING):
            assert await asked(fake) == []
            fake.refusals["PushUpdate"] = [error]
            fake.assign(pb.ASSIGNMENT_KIND_TRAIN, model_file(), id="first", round=2)
            assert await asked(fake) == ["first"]
            fake.fates["first"] = True
            assert await count_of(fake, id="second", round=3) == 2

    asyncio.run(scenario())


def test_a_learner_does_not_find_the_state_of_another(tmp_path: Path) -> None:
    """A job that takes any learner gets another one when the client starts with another one."""

    async def scenario() -> None:
        async with FakeCoordinator() as fake:
            fake.fates |= {"one": True, "two": True, "three": True}
            for learner, number, count in ((COUNTING, "one", 1), (COUNTING_TOO, "two", 1), (COUNTING, "three", 2)):
                async with started(fake.address, tmp_path, learner=learner) as client:
                    assert await count_of(fake, id=number, round=2) == count
                    while await asked(fake) != [number]:
                        pass
                    client.signal(signal.SIGKILL)
                    await client.exits()

    asyncio.run(scenario())


def test_a_first_round_begins_with_nothing(tmp_path: Path) -> None:
    """A coordinator whose data was deleted gives the same job ids again."""

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, learner=COUNTING):
            fake.fates |= {"one": True, "two": True}
            assert await count_of(fake, id="one", round=2) == 1
            assert await count_of(fake, id="two", round=1) == 1
            assert await count_of(fake, id="three", round=2) == 2

    asyncio.run(scenario())


def test_a_pending_state_has_its_name_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool(tmp_path) as spool:
        spool.states.draft.write_bytes(b"state")
        synced: list[tuple[Path, list[str]]] = []

        def sync(fd: int) -> None:
            synced.append((Path(f"/proc/self/fd/{fd}").readlink(), spool.states.unsettled()))

        monkeypatch.setattr(os, "fsync", sync)
        spool.states.pend("job-1", "learner", "mine")
        states = spool.states.root
        assert synced == [(states / "job-1@learner.pending", ["mine"]), (states, ["mine"])]


def test_a_fate_that_was_not_asked_for_changes_nothing(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.states.draft.write_bytes(b"state")
        spool.states.pend("job-1", "learner", "mine")
        spool.states.settle({"another": True})
        assert spool.states.unsettled() == ["mine"]
        assert spool.states.promoted("job-1", "learner") is None
        spool.states.settle({"mine": True})
        promoted = spool.states.promoted("job-1", "learner")
        assert promoted is not None
        assert promoted.read_bytes() == b"state"
        assert spool.states.promoted("job-1", "another") is None
        assert spool.states.unsettled() == []


def pending(spool: Spool, number: int, *, first: bool = False) -> str:
    """A state that was made in an assignment of the job, with the number in it."""
    spool.states.draft.write_bytes(str(number).encode())
    assignment = f"job-1.{number}.1.train.site-1"
    spool.states.pend("job-1", "learner", assignment, first=first)
    return assignment


def test_of_several_states_the_latest_stays(tmp_path: Path) -> None:
    """In asynchronous rounds a client may have given several updates before the first is folded."""
    with Spool(tmp_path) as spool:
        folded = {pending(spool, number): True for number in (9, 10, 11)}
        spool.states.settle({**folded, "job-1.11.1.train.site-1": False})
        promoted = spool.states.promoted("job-1", "learner")
        assert promoted is not None
        assert promoted.read_bytes() == b"10"


def test_a_job_that_begins_forgets_all_but_what_it_began_with(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        first, second = pending(spool, 1, first=True), pending(spool, 2)
        assert spool.states.unsettled() == [first, second]
        spool.states.forget("job-1", "job-1.1.2.train.site-1")
        assert spool.states.unsettled() == [first]
        spool.states.settle({first: True})
        assert spool.states.promoted("job-1", "learner") is not None
        assert pending(spool, 1, first=True) == first
        spool.states.forget("job-1", first)
        assert spool.states.unsettled() == []
        assert spool.states.promoted("job-1", "learner") is None
