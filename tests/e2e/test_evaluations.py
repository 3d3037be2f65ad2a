"""Evaluations beside the rounds, on the coordinator's side as well, and of chosen versions."""

import json
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from fedelta.admin import AdminClient, EvaluationClosed, JobState, RoundClosed, StateChanged
from fedelta.demo.processes import Federation, Process, federation
from tests.e2e.running import ENVIRONMENT, SITES, data_of, fedelta, finish, job, let_go, run, start

JUDGE = ("--evaluator", "learners:Judge", "--evaluator-data")
JUDGED = {**SITES, "central": (1000, 4.0)}


def start_judged(running: Federation) -> Process:
    """Starts the coordinator with an evaluator, and waits until that is connected."""
    data = data_of(running, "central")
    data.mkdir(parents=True, exist_ok=True)
    coordinator = running.start_coordinator(*JUDGE, str(data))
    coordinator.wait_for("client central connected")
    return coordinator


def judged(**given: Any) -> str:
    """A job in which the three sites train, and all evaluate."""
    return job(sites=JUDGED, **{"clients": len(SITES), **given})


@pytest.fixture(scope="module")
def quartet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Clients a, b and c, and the central evaluator, idle."""
    with federation(tmp_path_factory.mktemp("quartet"), ENVIRONMENT) as found:
        start_judged(found)
        start(found)
        yield found


def test_training_waits_for_no_evaluation(quartet: Federation) -> None:
    """The central evaluator does not get done with version 1 before the last round is closed."""
    (data_of(quartet, "central") / "go").unlink(missing_ok=True)
    with AdminClient(quartet.server) as admin:
        job_id = admin.submit_text(judged(acts={"central/evaluate/1": "hold"}))
        told: list[object] = []
        for event in admin.watch(job_id):
            told.append(event.what)
            if isinstance(event.what, RoundClosed) and event.what.round.number == 3:
                let_go(quartet, "central")
        info = admin.get(job_id)
    closed = [what.round.number for what in told if isinstance(what, RoundClosed)]
    evaluated = [what.evaluation.version for what in told if isinstance(what, EvaluationClosed)]
    assert (closed, sorted(evaluated)) == ([1, 2, 3], [1, 2, 3])
    kinds = [type(what) for what in told if isinstance(what, RoundClosed | EvaluationClosed)]
    assert kinds == [RoundClosed] * 3 + [EvaluationClosed] * 3
    assert isinstance(told[-1], StateChanged)
    assert (told[-1].state, info.state) == (JobState.FINISHED, JobState.FINISHED)
    assert all(each.central for each in info.evaluations)


def test_evaluations_have_their_spread_and_the_central_ones_are_apart(quartet: Federation) -> None:
    job_id = run(quartet, judged(max=2)).id
    shown = json.loads(fedelta("job", "show", job_id, "--json", "--server", quartet.server).stdout)
    for found in shown["evaluations"]:
        values = {part["client"]: part["metrics"]["distance"] for part in found["clients"] if not part["central"]}
        assert set(values) == set(SITES)
        ordered = sorted(values.values())
        assert found["spread"] == {
            "distance": {
                "min": ordered[0],
                "median": pytest.approx(np.median(ordered)),
                "p90": np.percentile(ordered, 90, method="inverted_cdf"),
                "max": ordered[2],
            }
        }
        # All evaluate the same model: the distances differ as the targets do.
        bias = SITES["a"][1] * found["version"] - values["a"]
        distance = pytest.approx(JUDGED["central"][1] * found["version"] - bias, rel=1e-6)
        assert found["central"] == {"distance": distance, "error/0": 0.0, "error/1": 0.25, "error/2": 0.5}
        weights = {name: count + 1 for name, (count, _) in SITES.items()}
        mean = sum(weights[name] * value for name, value in values.items()) / sum(weights.values())
        assert found["metrics"] == {"distance": pytest.approx(mean)}
        assert shown["rounds"][found["version"] - 1]["metrics"] == found["metrics"]
    text = fedelta("job", "show", job_id, "--server", quartet.server).stdout
    assert "central error of version 2: 0: 0, 1: 0.25, 2: 0.5" in text


def test_each_clients_data_against_chosen_versions_of_a_job_that_has_ended(quartet: Federation) -> None:
    info = run(quartet, judged())
    words = ("--version", "0", "--version", "latest", "--json", "--server", quartet.server)
    first, last = json.loads(fedelta("job", "evaluate", info.id, *words).stdout)
    assert (first["version"], last["version"]) == (0, 3)
    # Nothing of the initial model's bias is site's own, and in round 0 no target has moved yet.
    assert {part["client"]: part["metrics"]["distance"] for part in first["clients"]} == dict.fromkeys(JUDGED, -0.5)
    assert last["metrics"] == info.rounds[-1].metrics
    with AdminClient(quartet.server) as admin:
        after = admin.get(info.id)
    assert (after.state, [each.version for each in after.evaluations]) == (JobState.FINISHED, [0, 1, 2, 3])
    shown = fedelta("job", "evaluate", info.id, "--version", "0", "--server", quartet.server).stdout.splitlines()
    cells = [line.split("  ") for line in shown[1:]]
    assert [cell[0] for cell in cells] == ["distance", "a", "b", "c", "central", "mean of clients"]
    assert {cell[-1].strip() for cell in cells[1:]} == {"-0.5"}


def test_a_job_stops_at_a_target_of_the_central_evaluation_and_says_so(quartet: Federation) -> None:
    stop = '[[stop]]\nname = "target"\nmetric = "central/distance"\nat_least = 8.0\n'
    info = run(quartet, judged(max=50) + stop)
    assert info.state is JobState.FINISHED
    # The first version that is good enough; by the job's lag of one more round nobody has to wait for it.
    (version,) = [each.version for each in info.evaluations if each.central["distance"] >= 8.0][:1]
    assert info.rounds_done == version + 1 < 50
    assert info.reason.startswith(f"version {version} has central/distance ")
    shown = fedelta("job", "show", info.id, "--server", quartet.server).stdout
    assert shown.startswith(f"{info.id}: finished ({info.reason})")


def test_the_evaluator_comes_back_when_it_dies_and_dies_with_the_coordinator(running: Federation) -> None:
    coordinator = start_judged(running)
    start(running)
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(judged(max=2, acts={"central/evaluate/1": "hold"}))
        coordinator.wait_for("central holds in round 1")
        (evaluator,) = psutil.Process(coordinator.pid).children()
        evaluator.kill()
        let_go(running, "central")
        info = finish(admin, job_id)
    # Its successor went on with the evaluation that it had begun.
    assert [each.central.keys() for each in info.evaluations] == [{"distance", "error/0", "error/1", "error/2"}] * 2
    coordinator.wait_for("the central evaluator ended with exit code -9; starting it again in 1.00 s")
    processes = psutil.Process(coordinator.pid).children(recursive=True)
    assert len(processes) == 2
    coordinator.send_signal(signal.SIGKILL)
    coordinator.wait()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    start_judged(running)
    assert all(each.central for each in run(running, judged(max=1)).evaluations)
    assert running.coordinator is not None
    processes = psutil.Process(running.coordinator.pid).children(recursive=True)
    running.coordinator.send_signal(signal.SIGTERM)
    assert running.coordinator.wait() == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []


def test_without_its_evaluator_a_coordinator_goes_on(running: Federation) -> None:
    coordinator = running.start_coordinator("--evaluator", "nowhere:Nothing")
    coordinator.wait_for("nowhere")
    coordinator.wait_for("the central evaluator ended with exit code 2; starting it again in 1.00 s")
    coordinator.wait_for("starting it again in 2.00 s")
    with AdminClient(running.server) as admin:
        assert admin.list() == ()


def test_data_for_an_evaluator_needs_one(running: Federation) -> None:
    refused = fedelta("server", "--state", running.folder / "state", "--evaluator-data", running.folder)
    assert refused.returncode == 2
    assert "needs an evaluator" in refused.stderr
