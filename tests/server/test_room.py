"""Room on the disk is shared out among the uploads under way."""

from pathlib import Path

from fedelta_server.room import Room
from tests.server.rpc.harness import run, running


def test_each_upload_gives_back_its_own_claim(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path) as system:
            room = Room(system.coordinator, keep_free=0)
            async with room.claimed(10) as longer:
                async with room.claimed(10):
                    pass  # it has as much left as the other one when it ends
                longer.used(3)

    run(scenario)
