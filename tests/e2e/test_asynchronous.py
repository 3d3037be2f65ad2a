"""Asynchronous rounds with real processes: fast and slow clients, and a coordinator that dies in the middle."""

import json
import math
import signal
import sqlite3
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobInfo, JobState, Outcome
from fedelta.demo.processes import Federation
from fedelta_server.aggregate import WeightedUpdate, file_digest, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean
from fedelta_server.engine import records
from fedelta_server.manifest import Manifest, decode
from tests.e2e.running import fedelta, finish, job, let_go, run, start

SIZE, VERSIONS = 2, 6


def manifests(running: Federation, job_id: str) -> list[Manifest]:
    """What each version was made of."""
    folder = running.folder / "coordinator" / "manifests" / job_id
    return [decode((folder / f"{version}.json").read_bytes()) for version in range(1, VERSIONS + 1)]


def acknowledged(running: Federation, job_id: str) -> list[tuple[int, str, int, int]]:
    """The accepted updates as the journal has them: number, client, round and attempt."""
    with sqlite3.connect(running.folder / "coordinator" / "journal.db") as db:
        query = "SELECT body FROM journal WHERE job = ? AND kind = 'ParticipationEnded' ORDER BY sequence"
        bodies = [row[0] for row in db.execute(query, (job_id,))]
    ended = [msgspec.json.decode(body, type=records.ParticipationEnded) for body in bodies]
    return [(each.number, each.participation.client, each.round, each.attempt) for each in ended if each.number]


def check_order(running: Federation, info: JobInfo, before: list[tuple[int, str, int, int]]) -> None:
    """Each acknowledged update is in a version once, in the recorded order, and the late one with its staleness."""
    after = acknowledged(running, info.id)
    assert (len(before), after[:7]) == (7, before)
    assert [number for number, *_ in after] == list(range(1, SIZE * VERSIONS + 1))
    made = manifests(running, info.id)
    folded = [(update.client, update.round, update.attempt) for each in made for update in each.updates]
    assert folded == [tuple(where) for _, *where in after]
    late = made[3].updates[1]
    assert (late.client, late.round, late.staleness) == ("c", 1, 3)
    counted = [part for part in info.rounds[3].clients if part.outcome is Outcome.ACCEPTED]
    assert [part.client for part in counted] == [update.client for update in made[3].updates]


def updates_of(running: Federation, made: Manifest) -> list[WeightedUpdate]:
    """The updates of a version as the paper has them: each is discounted by how stale it is."""
    folder = running.folder / "coordinator" / "updates" / made.job
    return [
        WeightedUpdate(
            client=each.client,
            path=folder / f"{each.round}.{each.attempt}" / f"{each.client}.safetensors",
            weight=each.weight,
            discount=1 / math.sqrt(1 + made.version - each.round),
        )
        for each in made.updates
    ]


def check_versions(running: Federation, info: JobInfo, folder: Path) -> None:
    """Each version is, to the bit, what the updates that its manifest names make of the one before."""
    models, made = running.folder / "coordinator" / "models", manifests(running, info.id)
    digests = [info.initial_digest, *(closed.digest for closed in info.rounds)]
    assert [each.model.digest for each in made] == digests[1:]
    for manifest, (base, digest) in zip(made, pairwise(digests), strict=True):
        updates, out = updates_of(running, manifest), folder / "reference.safetensors"
        assert [file_digest(each.path).hex() for each in updates] == [each.digest for each in manifest.updates]
        assert fold(models / f"{base}.safetensors", updates, out, Mean(), Sgd()).digest.hex() == digest
        check_sum(load_file(models / f"{base}.safetensors"), load_file(out), updates)


def check_sum(base: dict[str, Any], made: dict[str, Any], updates: list[WeightedUpdate]) -> None:
    """The same by plain arithmetic, up to rounding."""
    total = sum(each.weight for each in updates)
    changes = [(each.weight / total * each.discount, load_file(each.path)) for each in updates]
    for name in ("weight", "bias"):
        expected = base[name] + sum(factor * change[name] for factor, change in changes)
        np.testing.assert_allclose(made[name], expected, rtol=1e-5, atol=1e-6)


def test_slow_clients_hold_up_nobody_and_a_killed_coordinator_loses_nothing(
    running: Federation, tmp_path: Path
) -> None:
    running.start_coordinator("--keep-updates", "9")
    start(running)
    # c works on its first update until it is let go; the others make three versions without it.
    acts = {"c/1": "hold", "a/4": "hold", "b/4": "hold"}
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(job(noise=0.1, acts=acts, max=VERSIONS, buffer=SIZE, min_clients=3))
        for name, held in (("a", 4), ("b", 4), ("c", 1)):
            running.clients[name].wait_for(f"{name} holds in round {held}")
        assert admin.get(job_id).rounds_done == 3
    assert running.coordinator is not None
    running.coordinator.send_signal(signal.SIGKILL)
    running.coordinator.wait()
    # The versions of before, one update that waits for its version, and three clients at work.
    before = acknowledged(running, job_id)
    running.start_coordinator("--keep-updates", "9")
    let_go(running, "c")
    with AdminClient(running.server) as admin:
        for event in admin.watch(job_id):
            if getattr(event.what, "version", 0) == 4:
                break
        let_go(running, "a")
        let_go(running, "b")
        info = finish(admin, job_id)
    assert info.state is JobState.FINISHED
    check_order(running, info, before)
    check_versions(running, info, tmp_path)
    verified = json.loads(fedelta("verify", job_id, "--state", running.folder / "coordinator", "--json").stdout)
    assert [version["verdict"] for version in verified["versions"]] == ["checked", *["recomputed"] * VERSIONS]


def test_a_client_that_fell_too_far_behind_is_stopped_and_begins_again_from_a_newer_version(
    running: Federation,
) -> None:
    start(running, ("a", "b"))
    acts = {"a/1": "hold", "b/4": "hold"}
    info = run(running, job(acts=acts, max=4, clients=2, buffer=1, min_clients=2, max_staleness=1))
    assert info.state is JobState.FINISHED
    late = [part for closed in info.rounds for part in closed.clients if part.outcome is Outcome.LATE]
    reason = "its update would be 2 versions behind; rounds.max_staleness = 1"
    assert [(part.client, part.reason) for part in late] == [("a", reason)]
    assert reason in running.clients["a"].wait_for("stopped")
    counted = [
        (part.client, part.staleness)
        for closed in info.rounds
        for part in closed.clients
        if part.outcome is Outcome.ACCEPTED
    ]
    assert counted == [("b", 0), ("b", 0), ("b", 0), ("a", 1)]
