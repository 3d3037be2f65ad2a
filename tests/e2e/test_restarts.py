"""The coordinator dies and comes back: the model is the same to the bit, and every version can be recomputed."""

import json
import signal

import pytest

from fedelta.admin import AdminClient, JobState, Outcome, ParticipationEnded
from fedelta.demo.processes import Federation, federation
from tests.e2e.running import ENVIRONMENT, digests, fedelta, finish, job, let_go, run, start, trained

# The noise comes from the generator that is seeded for each assignment: what is trained again has the same bits.
NOISE = 0.1


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The versions of a run in which nothing happens."""
    with federation(tmp_path_factory.mktemp("undisturbed"), ENVIRONMENT) as running:
        start(running)
        return digests(run(running, job(noise=NOISE)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_in_mid_round_changes_nothing(
    running: Federation, undisturbed: list[str], number: signal.Signals
) -> None:
    running.start_coordinator("--keep-updates", "3")
    start(running)
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(job(noise=NOISE, acts={"b/2": "hold"}))
        running.clients["b"].wait_for("b holds in round 2")
        for event in admin.watch(job_id):
            # By now one update of the round is acknowledged, and b still works on its own.
            if isinstance(event.what, ParticipationEnded) and event.what.round == 2:
                break
    assert running.coordinator is not None
    running.coordinator.send_signal(number)
    assert running.coordinator.wait() == (-number if number == signal.SIGKILL else 0)
    running.start_coordinator("--keep-updates", "3")
    let_go(running, "b")
    with AdminClient(running.server) as admin:
        info = finish(admin, job_id)
    assert info.state is JobState.FINISHED
    assert digests(info) == undisturbed
    outcomes = [trained(closed.clients) for closed in info.rounds]
    assert outcomes == [dict.fromkeys("abc", (Outcome.ACCEPTED, ""))] * 3
    verified = json.loads(fedelta("verify", job_id, "--state", running.folder / "coordinator", "--json").stdout)
    assert [version["verdict"] for version in verified["versions"]] == ["checked", *["recomputed"] * 3]
