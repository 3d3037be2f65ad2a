"""A federation on a line with 20 Mbit/s, 50 ms there and back, and lost packets; and on one that is cut for a while.

The congestion control is the kernel's: 1 % loss leaves bbr most of such a line, and cubic about 3 Mbit/s.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedelta.demo.processes import federation
from tests.client.process import ClientProcess
from tests.e2e.running import ENVIRONMENT, digests, job, run, start
from tests.net import cable, machines
from tests.net.cable import Cable, Line
from tests.net.machines import CABLE, Machine, two_machines

HERE = f"{CABLE[0]}:8470"
SIZED = "learners:Sized"
SITES = {"a": (10, 1.0), "b": (30, -2.0)}
ROW_BYTES = 4 * 25

WHY_NOT = machines.missing() or cable.missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@dataclass(frozen=True, kw_only=True)
class Apart:
    """A coordinator on one machine and clients on another."""

    where: Path
    at_coordinator: Machine
    at_sites: Machine
    cable: Cable
    clients: dict[str, ClientProcess]

    @asynccontextmanager
    async def submitted(self, text: str) -> AsyncIterator[ClientProcess]:
        """What `fedelta job submit --wait` says of a job."""
        (self.where / "job.toml").write_text(text)
        async with self.at_coordinator.starts(
            "job", "submit", self.where / "job.toml", "--wait", "--server", HERE
        ) as submit:
            yield submit

    async def told(self) -> dict[str, Any]:
        """The job, as `fedelta job show` tells it."""
        found: dict[str, Any] = await self.at_coordinator.tells("job", "show", "steps-1", "--server", HERE)
        return found


@asynccontextmanager
async def apart(where: Path, line: Line, sites: tuple[str, ...]) -> AsyncIterator[Apart]:
    """A coordinator and clients of these names, which are connected."""
    with Cable(line) as between, two_machines(cable=between) as (here, there):
        async with AsyncExitStack() as held:
            serving = ("server", "--state", where / "state", "--host", CABLE[0], "--insecure-bind-anywhere")
            coordinator = await held.enter_async_context(here.starts(*serving))
            await coordinator.says("coordinator ready")
            clients = {name: await held.enter_async_context(there.starts(*site(where, name))) for name in sites}
            for client in clients.values():
                await client.says("connected to")
            yield Apart(where=where, at_coordinator=here, at_sites=there, cable=between, clients=clients)


def site(where: Path, name: str) -> tuple[str | Path, ...]:
    """The command that starts a client. It finds out within 11 s that nobody answers."""
    data, spool = where / "data" / name, where / "spools" / name
    data.mkdir(parents=True)
    offers = ("--name", name, "--learner", SIZED, "--data", data, "--spool", spool)
    return ("client", "--server", HERE, *offers, "--keepalive-seconds", "1", "-v")


def on_loopback(where: Path, text: str, sites: tuple[str, ...]) -> list[str]:
    """The digests of the versions that a job makes where nothing is in between."""
    with federation(where, ENVIRONMENT) as running:
        start(running, sites, SIZED)
        return digests(run(running, text))


def versions(told: dict[str, Any]) -> list[str]:
    return [told["initial_digest"], *(closed["digest"] for closed in told["rounds"])]


def outcomes(closed: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a round's trainings, by client."""
    return [(part["client"], part["outcome"]) for part in closed["clients"] if part["phase"] == "train"]


def test_a_line_that_loses_packets_changes_nothing(tmp_path: Path) -> None:
    text = job(sites=SITES, arguments={"rows": 20_000}, noise=0.1, max=2)

    async def scenario() -> dict[str, Any]:
        async with apart(tmp_path, Line(loss=0.01), tuple(SITES)) as federated, federated.submitted(text) as submit:
            for said in ("initial model", "round 1: training", "round 2: training", "finished after 2 rounds"):
                await submit.says(said)
            assert federated.cable.up.lost > 0
            return await federated.told()

    told = asyncio.run(scenario())
    assert [outcomes(closed) for closed in told["rounds"]] == [[(name, "accepted") for name in SITES]] * 2
    assert versions(told) == on_loopback(tmp_path / "loopback", text, tuple(SITES))


@pytest.mark.parametrize("seconds", [12, pytest.param(30, marks=pytest.mark.slow)])
def test_an_upload_goes_on_where_a_cut_broke_it(tmp_path: Path, seconds: int) -> None:
    rows = 60_000
    plan: dict[str, Any] = {"sites": {"a": SITES["a"]}, "arguments": {"rows": rows}, "noise": 0.1, "max": 1}

    async def scenario() -> tuple[dict[str, Any], dict[str, Any]]:
        async with (
            apart(tmp_path, Line(), ("a",)) as federated,
            federated.submitted(job(acts={"a/1": "hold"}, **plan)) as submit,
        ):
            client, up = federated.clients["a"], federated.cable.up
            await client.says("a holds in round 1")
            before = up.carried
            (tmp_path / "data" / "a" / "go").touch()
            # Two of the three messages are with the coordinator by then.
            await federated.cable.news.until(lambda: up.carried - before > 0.8 * rows * ROW_BYTES)
            federated.at_sites.configure("link", "set", "cable", "down")
            # The length of the cut is the fault.
            await asyncio.sleep(seconds)
            before = up.carried
            federated.at_sites.configure("link", "set", "cable", "up")
            await submit.says("finished after 1 round")
            # The rest, which includes the message that was cut; a restart would send all.
            assert 0.2 * rows * ROW_BYTES < up.carried - before < 0.5 * rows * ROW_BYTES
            assert sum("round 1: trained on" in line for line in client.said) == 1
            log = ("client", "log", "--spool", tmp_path / "spools" / "a", "--job", "steps-1")
            return await federated.told(), await federated.at_sites.tells(*log)

    told, log = asyncio.run(scenario())
    (closed,) = told["rounds"]
    (update,) = (each for each in log["left"] if each["kind"] == "update")
    assert outcomes(closed) == [("a", "accepted")]
    # The coordinator took in each byte once.
    assert closed["bytes_up"] == update["bytes"]
    assert update["fate"] == "acknowledged"
    assert update["bytes"] <= update["bytes_sent"] < 1.6 * update["bytes"]
    assert versions(told) == on_loopback(tmp_path / "loopback", job(**plan), ("a",))
