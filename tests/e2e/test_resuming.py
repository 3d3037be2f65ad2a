"""A client is killed between its update and the acknowledgement: it goes on, and the model is the same to the bit."""

import json
import signal
from typing import Any

import pytest

from fedelta.admin import AdminClient, JobInfo, JobState, Outcome
from fedelta.demo.processes import Federation, federation
from tests.e2e.running import ENVIRONMENT, SITES, digests, fedelta, finish, job, let_go, start, start_client, trained

SIZED = "learners:Sized"
HELD = "b/2"


def submitted(admin: AdminClient, **acts: str) -> str:
    """Updates of 10 MB: more than a connection takes in while nobody reads. Training is noisy, from a given seed."""
    return admin.submit_text(job(noise=0.1, arguments={"rows": 100_000}, acts=acts, max=2))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The versions of a run in which nothing happens."""
    with federation(tmp_path_factory.mktemp("undisturbed"), ENVIRONMENT) as running:
        start(running, learner=SIZED)
        with AdminClient(running.server) as admin:
            return digests(finish(admin, submitted(admin)))


@pytest.mark.parametrize("both", [False, True], ids=["client", "client and coordinator"])
def test_an_update_that_was_on_its_way_is_not_made_again(
    running: Federation, undisturbed: list[str], both: bool
) -> None:
    running.start_coordinator()
    start(running, [name for name in SITES if name != "b"], SIZED)
    start_client(running, "b", SIZED, "-v").wait_for("connected")
    with AdminClient(running.server) as admin:
        job_id = submitted(admin, **{HELD: "hold"})
        running.clients["b"].wait_for("b holds in round 2")
    kill_while_b_sends(running, both=both)
    client = start_client(running, "b", SIZED)
    with AdminClient(running.server) as admin:
        info = finish(admin, job_id)
    client.wait_for("round 2: was finished before this client was started again")
    assert info.state is JobState.FINISHED
    assert digests(info) == undisturbed
    assert [trained(closed.clients) for closed in info.rounds] == [dict.fromkeys(SITES, (Outcome.ACCEPTED, ""))] * 2
    assert client.log.read_text().count("round 2: trained on") == 1
    check_ledger(running, info)


def kill_while_b_sends(running: Federation, *, both: bool) -> None:
    """Nothing is acknowledged, because the coordinator stands still meanwhile."""
    assert running.coordinator is not None
    running.coordinator.send_signal(signal.SIGSTOP)
    let_go(running, "b")
    running.clients["b"].wait_for("round 2: sending the update")
    running.clients["b"].send_signal(signal.SIGKILL)
    running.clients["b"].wait()
    if both:
        running.coordinator.send_signal(signal.SIGKILL)
        running.coordinator.wait()
        running.start_coordinator()
    else:
        running.coordinator.send_signal(signal.SIGCONT)


def check_ledger(running: Federation, info: JobInfo) -> None:
    """The site's ledger has one update for each round, and its fate."""
    told = fedelta("client", "log", "--spool", running.folder / "spools" / "b", "--job", info.id, "--json")
    updates: list[dict[str, Any]] = [each for each in json.loads(told.stdout)["left"] if each["kind"] == "update"]
    assert [(each["round"], each["fate"]) for each in updates] == [(1, "acknowledged"), (2, "acknowledged")]
    assert updates[1]["bytes_sent"] == updates[1]["bytes"]
