"""A site that has a policy, asks its operator, and keeps a ledger."""

import json
from pathlib import Path

from fedelta.admin import AdminClient, JobState, Phase
from fedelta.demo.processes import Federation
from fedelta_server.engine.records import ParticipationEnded
from fedelta_server.store.journal import Journal
from tests.e2e.running import STEPS, digests, fedelta, finish, job, start_client

SITE = {"a": (10, 1.0)}
POLICY = """
[jobs]
names = ["steps"]
[train.noise]
max = 0.5
[train.sites]
[train.acts]
[limits]
min_examples = 5
"""


def test_a_site_refuses_one_job_approves_another_and_knows_what_left(running: Federation, tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    spool = running.folder / "spools" / "a"
    running.start_coordinator()
    client = start_client(
        running, "a", STEPS, "--policy", str(tmp_path / "policy.toml"), "--approve", "--label", "site=north"
    )
    client.wait_for("connected")
    with AdminClient(running.server) as admin:
        refused = admin.submit_text(job(sites=SITE, noise=0.75))
        client.wait_for("declined: the site's policy: train.noise = 0.75, where it wants at most 0.5")
        wanted = admin.submit_text(job(sites=SITE))
        client.wait_for(f"{wanted} waits for approval")
        approved = fedelta("client", "approve", wanted, "--spool", spool)
        assert approved.stdout.splitlines()[-1] == "approved"
        info = finish(admin, wanted)
        assert info.state is JobState.FINISHED
        assert admin.get(refused).rounds_done == 0
    running.stop()

    log = json.loads(fedelta("client", "log", "--spool", spool, "--job", wanted, "--json").stdout)
    files = [each for each in log["left"] if each["digest"]]
    assert [(each["kind"], each["round"], each["fate"]) for each in files] == [
        ("model", 0, "acknowledged"),
        *(("update", number, "acknowledged") for number in (1, 2, 3)),
    ]
    made, *updates = [each["digest"] for each in files]
    assert made == info.initial_digest
    assert updates == accepted(running, wanted)
    assert [each["digest"] for each in log["fetched"]] == digests(info)
    assert [each["bytes"] for each in log["fetched"]] == [files[0]["bytes"]] * 4
    trained = [part for closed in info.rounds for part in closed.clients if part.phase is Phase.TRAIN]
    assert [(each["examples"], each["metrics"]) for each in files[1:]] == [(p.examples, p.metrics) for p in trained]
    assert all(each["norm"] > 0 for each in files[1:])

    everything = fedelta("client", "log", "--spool", spool).stdout
    assert "site=north" in everything
    assert "the site's policy: train.noise = 0.75" in everything


def accepted(running: Federation, job_id: str) -> list[str]:
    """The digests of the updates that the coordinator acknowledged, from its journal."""
    journal = Journal(f"sqlite:///{running.folder / 'coordinator' / 'journal.db'}")
    try:
        ended = [entry.record for entry in journal.entries(job_id)]
    finally:
        journal.close()
    return [each.digest.hex() for each in ended if isinstance(each, ParticipationEnded) and each.round and each.digest]
