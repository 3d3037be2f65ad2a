"""Connections that are idle, cut, balanced or lead to several addresses."""

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from fedelta.admin import AdminClient, JobInfo
from fedelta.demo.processes import Federation, federation
from fedelta.v1 import admin_pb2, admin_pb2_grpc
from fedelta.v1 import coordinator_pb2 as pb
from fedelta.wire.channel import connect
from fedelta.wire.route import LEAST_KEEPALIVE_SECONDS, Route
from fedelta_client.session import Session
from tests.cli.fake import FakeCoordinator as FakeAdmin
from tests.client.fake import FakeCoordinator
from tests.e2e.running import ENVIRONMENT, data_of, digests, fedelta, finish, job
from tests.net.relay import Relay, dead_port
from tests.server.rpc.harness import job_toml, running

IDLE_SECONDS = 1.5 * LEAST_KEEPALIVE_SECONDS
SITES = {"a": (10, 1.0)}


def held_poll(session: Session) -> "asyncio.Task[pb.NextAssignmentResponse]":
    """A call for work that the coordinator holds, since there is none."""
    request = pb.NextAssignmentRequest()
    request.wait.FromSeconds(60)
    return asyncio.create_task(session.call(session.stub.NextAssignment, request, seconds=60))


def test_keepalive_holds_a_poll_under_an_idle_limit(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system, Relay(system.address, idle_seconds=IDLE_SECONDS) as relay:
            session = Session(relay.address, "site-1", ["l"], keepalive_seconds=LEAST_KEEPALIVE_SECONDS)
            async with session:
                await session.register()
                poll = held_poll(session)
                # A coordinator that takes pings for abuse closes the connection after six of them.
                await relay.news.until(lambda: relay.links[0].pings == 8 or relay.accepted > 1)
                assert (relay.accepted, poll.done()) == (1, False)
                poll.cancel()

    asyncio.run(scenario())


def test_an_idle_limit_that_cuts_costs_a_reconnect_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedelta.client")

    async def scenario() -> None:
        async with FakeCoordinator() as fake, Relay(fake.address, idle_seconds=0.5) as relay:
            async with Session(relay.address, "site-1", ["l"]) as session:
                await session.register()
                poll = held_poll(session)
                await fake.next("NextAssignment")
                await fake.next("NextAssignment")
                given = fake.assign(pb.ASSIGNMENT_KIND_TRAIN)
                assert (await poll).assignment == given
            assert relay.accepted > 1

    asyncio.run(scenario())
    assert caplog.messages == []


def test_a_connection_that_is_cut_again_and_again_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fedelta.client")

    async def scenario() -> None:
        async with FakeCoordinator() as fake, Relay(fake.address) as relay:
            async with Session(relay.address, "site-1", ["l"]) as session:
                await session.register()
                poll = held_poll(session)
                for _ in range(3):
                    await fake.next("NextAssignment")
                    relay.cut()
                # A poll that is gone would take the assignment with it.
                await fake.next("NextAssignment")
                fake.assign(pb.ASSIGNMENT_KIND_TRAIN)
                await poll
            assert relay.accepted == 4

    asyncio.run(scenario())
    told, back = caplog.messages
    # Its records hold on to errors, and these to the session.
    caplog.clear()
    assert told.startswith("waiting for the coordinator: the connection to 127.0.0.1:")
    assert "broke" in told
    assert "answers again" in back


def test_a_newer_poll_ends_an_older_one_whose_connection_may_be_dead(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            client = await system.joined("site-1")
            older, newer = asyncio.ensure_future(client.poll()), asyncio.ensure_future(client.poll())
            assert not (await older).HasField("assignment")
            await system.submit(job_toml(init="first-client"))
            assert (await newer).HasField("assignment")

    asyncio.run(scenario())


def test_an_upload_outlives_the_death_of_a_balancer(tmp_path: Path) -> None:
    async def scenario(federated: Federation) -> None:
        direct = await asyncio.to_thread(trained, federated, federated.server, "direct")
        async with (
            Relay(federated.server, dies_after_up=1 << 20) as doomed,
            Relay(federated.server) as spare,
            Relay(spare.address, doomed.address) as balancer,
        ):
            balanced = await asyncio.to_thread(trained, federated, balancer.address, "balanced")
            # The first connection of the client was on it, with an update of four megabytes.
            assert doomed.links[-1].up > 1 << 20
            assert max(link.up for link in spare.links) > 1 << 20
            assert digests(balanced) == digests(direct)

    with federation(tmp_path, ENVIRONMENT) as federated:
        federated.start_coordinator()
        asyncio.run(scenario(federated))


def trained(federated: Federation, server: str, spool: str) -> JobInfo:
    """A job of two rounds whose client reaches the coordinator by that address."""
    data = data_of(federated, spool)
    data.mkdir(parents=True)
    client = federated.start_client(
        "a", "learners:Sized", "--server", server, "--spool", str(data / "spool"), data=data
    )
    text = job(sites=SITES, max=2, learner="learners:Sized", arguments={"rows": 40_000})
    with AdminClient(federated.server) as admin:
        client.wait_for("connected")
        found = finish(admin, admin.submit_text(text))
    client.stop()
    return found


@pytest.mark.parametrize("dead", [dead_port, None])
def test_of_several_addresses_a_dead_one_does_no_harm(dead: "Callable[[str], ExitStack] | None") -> None:
    with ExitStack() as held, FakeAdmin() as fake:
        port = held.enter_context(dead("127.0.0.2")) if dead else 1
        # As a name with two addresses resolves.
        target = f"ipv4:127.0.0.2:{port},127.0.0.1:{fake.port}"
        with connect(Route(target=target)) as channel:
            stub = admin_pb2_grpc.AdminServiceStub(channel)
            # A deadline shorter than the time that a try to connect may take.
            assert stub.ListJobs(admin_pb2.ListJobsRequest(), timeout=5).jobs == []


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize(
    ("options", "printed", "ways"),
    [
        (("--host", "::1"), "[::1]:", ("[::1]",)),
        (("--host", "[::1]"), "[::1]:", ("[::1]",)),
        (("--host", "::", "--insecure-bind-anywhere"), "[::]:", ("[::1]", "127.0.0.1")),
    ],
)
def test_ipv6(tmp_path: Path, options: tuple[str, ...], printed: str, ways: tuple[str, ...]) -> None:
    with federation(tmp_path, ENVIRONMENT) as federated:
        federated.start_coordinator(*options)
        assert federated.server.startswith(printed)
        port = federated.server.rpartition(":")[2]
        for host in ways:
            with AdminClient(f"{host}:{port}") as admin:
                assert admin.list() == ()
        data = data_of(federated, "a")
        data.mkdir(parents=True)
        client = federated.start_client("a", "learners:Steps", "--server", f"{ways[0]}:{port}", data=data)
        assert client.wait_for("connected").endswith(f"connected to {ways[0]}:{port}")


@needs_ipv6
def test_a_host_that_others_reach_needs_to_be_allowed(tmp_path: Path) -> None:
    for host in ("::", "[::]", "0.0.0.0"):
        refused = fedelta("server", "--state", tmp_path / "state", "--host", host, "--port", "0")
        assert refused.returncode == 2
        assert "--insecure-bind-anywhere" in refused.stderr
