"""What clients hear that are too many, too late, or come all at once."""

import asyncio
import time
from pathlib import Path

import pytest

from fedelta.errors import AssignmentEndedError, BusyError, StorageError
from fedelta.v1 import admin_pb2 as admin
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_server import pace, uploads
from fedelta_server.config import KEEP_FREE
from fedelta_server.store._fs import FileSystem
from tests.server.rpc.harness import (
    Client,
    System,
    Upload,
    assert_done,
    failure,
    job_toml,
    part_of,
    run,
    running,
    training,
    update_file,
)

UPDATE = update_file(1.0)
HALF = len(UPDATE) // 2

ONE_OF_TWO = "max = 1\nclients = 1\nmin_clients = 2\nover_select = 2"


async def held(client: Client, assignment: str, count: int) -> None:
    """Waits until so many bytes of the update are there."""
    while (await client.held(assignment, UPDATE)).bytes_held < count:
        await asyncio.sleep(0.01)


async def both(system: System, rounds: str) -> tuple[str, tuple[Client, str], tuple[Client, str]]:
    """A job and two clients with their assignments."""
    a, b = await system.joined("a"), await system.joined("b")
    job_id = await system.submit(job_toml(rounds))
    return job_id, (a, (await a.work()).id), (b, (await b.work()).id)


def test_a_client_that_is_not_needed_is_released_in_the_middle_of_its_upload(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            job_id, (a, slow), (b, quick) = await both(system, ONE_OF_TWO)
            upload = Upload.begin(a, a.header(slow, UPDATE), UPDATE[:HALF])
            await held(a, slow, HALF)
            await b.push(quick, UPDATE)
            renewed = await a.renew(slow)
            assert renewed.directive == pb.DIRECTIVE_CANCEL
            assert renewed.reason.endswith("released (the round has the update that it wanted)")
            upload.messages.put_nowait(UPDATE[HALF : HALF + 1])  # and no more: it is not asked for the rest
            refused = await failure(upload.call)
            assert isinstance(refused, AssignmentEndedError)
            assert "released" in refused.message
            await assert_done(system, job_id)
            job = await system.job(job_id)
            assert part_of(job, "a").outcome == admin.OUTCOME_RELEASED
            assert not list((tmp_path / "uploads").iterdir()), "what it had sent is not kept"

    run(scenario)


def test_who_takes_the_place_of_another_is_told_to_watchers(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            clients = {name: await system.joined(name) for name in ("a", "b")}
            job_id = await system.submit(job_toml("max = 1\nclients = 1"))
            opened = (await system.watch(job_id, "phase_opened"))[-1].phase_opened
            (first,), (second,) = opened.clients, clients.keys() - set(opened.clients)
            work = await clients[first].work()
            await clients[first].failed(work.id, pb.FAILURE_KIND_LEARNER, "no")
            extended = (await system.watch(job_id, "phase_extended"))[-1].phase_extended
            assert (list(extended.clients), extended.round, extended.phase) == ([second], 1, admin.PHASE_TRAIN)
            await clients[second].push((await clients[second].work()).id, UPDATE)
            await assert_done(system, job_id)

    run(scenario)


def test_who_comes_late_hears_why_after_a_restart_as_well(tmp_path: Path) -> None:
    late = ""

    async def before() -> None:
        nonlocal late
        async with running(tmp_path) as system:
            job_id, (_, late), (b, quick) = await both(system, ONE_OF_TWO)
            await b.push(quick, UPDATE)
            await assert_done(system, job_id)

    async def after() -> None:
        async with running(tmp_path) as system:
            a, b = await system.joined("a"), await system.joined("b")
            refused = await failure(a.push(late, UPDATE))
            assert isinstance(refused, AssignmentEndedError)
            assert "released (the round has the update that it wanted)" in refused.message
            again = await b.push(late.removesuffix(".a") + ".b", UPDATE)
            assert again.already_accepted, "the round is closed, and its update is known all the same"

    run(before)
    run(after)


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_jumps_changes_nothing_but_what_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client, assignment, job_id = await training(system)
            true = time.time
            monkeypatch.setattr(time, "time", lambda: true() + days * 86_400)
            assert (await client.renew(assignment)).directive == pb.DIRECTIVE_CONTINUE
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)
            times = [event.time.seconds for event in await system.watch(job_id)]
            assert abs(times[-1] - times[0]) > 399 * 86_400

    run(scenario)


# Pace.


def test_clients_are_told_how_fast_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "EASY_RETURNS_PER_SECOND", 0.1)

    async def scenario() -> None:
        async with running(tmp_path) as system:
            assert (await system.client("a").register()).reconnect_within.seconds == 10
            b = system.client("b")
            assert (await b.register()).reconnect_within.seconds == 20
            assert (await b.poll(wait=0)).reconnect_within.seconds == 20

    run(scenario)


def test_clients_of_a_coordinator_that_ends_do_not_ask_again_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "EASY_RETURNS_PER_SECOND", 0.1)

    async def scenario() -> None:
        async with running(tmp_path) as system:
            clients = [await system.joined(f"site-{number}") for number in range(5)]
            polls = [asyncio.ensure_future(_answer(client)) for client in clients]
            while sum(client.polls for client in system.coordinator.engine.clients) < len(clients):
                await asyncio.sleep(0.01)
            await system.coordinator.drain()
            waits = [(await poll).retry_after.ToTimedelta().total_seconds() for poll in polls]
            assert len(set(waits)) == len(clients)
            assert all(1 <= wait <= 51 for wait in waits)

    run(scenario)


async def _answer(client: Client) -> pb.NextAssignmentResponse:
    found: pb.NextAssignmentResponse = await client.poll()
    return found


def test_where_too_many_wait_to_upload_one_is_told_when_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_CONCURRENT", 1)
    monkeypatch.setattr(uploads, "MOST_WAITING", 0)

    async def scenario() -> None:
        async with running(tmp_path) as system:
            job_id, (a, first), (b, second) = await both(system, "max = 1\nclients = 2")
            under_way = Upload.begin(a, a.header(first, UPDATE), UPDATE[:HALF])
            await held(a, first, HALF)
            refused = await failure(b.push(second, UPDATE))
            assert isinstance(refused, BusyError)
            assert refused.retry_seconds is not None
            await under_way.finish(UPDATE[HALF:])
            await b.push(second, UPDATE)
            await assert_done(system, job_id)

    run(scenario)


class SmallDisk(FileSystem):
    """Has room for one upload and a half."""

    free = KEEP_FREE + len(UPDATE) * 3 // 2

    def free_bytes(self, directory: Path) -> int:
        del directory
        return self.free


def test_an_upload_waits_for_the_room_that_another_one_has(tmp_path: Path) -> None:
    disk = SmallDisk()

    async def scenario() -> None:
        async with running(tmp_path, disk) as system:
            job_id, (a, first), (b, second) = await both(system, "max = 1\nclients = 2")
            under_way = Upload.begin(a, a.header(first, UPDATE), UPDATE[:HALF])
            await held(a, first, HALF)
            disk.free = KEEP_FREE + len(UPDATE)  # the other half of the first, and half of the second
            refused = await failure(b.push(second, UPDATE))
            assert isinstance(refused, BusyError)
            assert refused.retry_seconds is not None
            assert "uploads under way take the room" in refused.message
            disk.free = KEEP_FREE + len(UPDATE) - HALF + len(UPDATE)
            await b.push(second, UPDATE)
            await under_way.finish(UPDATE[HALF:])
            await assert_done(system, job_id)

    run(scenario)


def test_a_disk_that_is_full_is_said_to_be(tmp_path: Path) -> None:
    disk = SmallDisk()

    async def scenario() -> None:
        async with running(tmp_path, disk) as system:
            client, assignment, job_id = await training(system)
            disk.free = KEEP_FREE + len(UPDATE) - 1
            refused = await failure(client.push(assignment, UPDATE))
            assert isinstance(refused, StorageError)
            assert refused.retry_seconds is not None
            assert "--keep-free" in refused.message
            assert not list((tmp_path / "uploads").iterdir()), "nothing was begun"
            disk.free += 1
            await client.push(assignment, UPDATE)
            await assert_done(system, job_id)

    run(scenario)
