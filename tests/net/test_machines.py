"""What only another machine shows: unplugged addresses, and a client whose address changes."""

import asyncio
from pathlib import Path

import pytest

from tests.e2e.running import job
from tests.net.machines import CABLE, missing, two_machines

HERE = CABLE[0]
# Begins with more bits of the client's address than the coordinator's does: so resolvers put it first.
UNPLUGGED = "10.213.77.3"
MOVED = "10.213.77.40"

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def test_an_unplugged_address_and_a_client_that_moves(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "job.toml").write_text(job(sites={"a": (10, 1.0)}, max=2))

    async def scenario() -> None:
        with two_machines(f"{UNPLUGGED} fed\n{HERE} fed\n") as (at_coordinator, at_site):
            async with (
                at_coordinator.starts(
                    *("server", "--state", tmp_path / "state", "--host", HERE, "--insecure-bind-anywhere")
                ) as coordinator,
                at_site.starts(
                    *("client", "--server", "fed:8470", "--name", "a", "--learner", "learners:Steps"),
                    *("--data", tmp_path / "data", "--spool", tmp_path / "spool", "--keepalive-seconds", "1"),
                ) as client,
            ):
                await coordinator.says(f"coordinator ready on {HERE}:8470")
                await client.says("connected to fed:8470")
                at_site.configure("addr", "del", f"{CABLE[1]}/24", "dev", "cable")
                at_site.configure("addr", "add", f"{MOVED}/24", "dev", "cable")
                async with at_coordinator.starts(
                    "job", "submit", tmp_path / "job.toml", "--wait", "--server", f"{HERE}:8470"
                ) as submit:
                    await submit.says("finished after 2 rounds")

    asyncio.run(scenario())
