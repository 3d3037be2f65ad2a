"""What selectors and stop rules decide by: what was told so far, the same after a restart."""

import pytest

from fedelta.parts import Candidate
from fedelta_server.engine import events, records
from fedelta_server.engine.words import JobState
from tests.server.engine.harness import Harness, session, toml

NAMES = ("ada", "bob", "cyd", "dee")

NO_EVALUATION = "[evaluate]\nevery = 0\n"


def cohort(h: Harness, job: str) -> list[str]:
    """Who trains in the open round."""
    round_ = h.job(job).round
    assert round_ is not None, h.job(job).reason
    return list(round_.phase.clients)


def train(h: Harness, job: str, seconds: float = 0.0, norm: float = 0.0, loss: float | None = None) -> None:
    """All of the cohort train, and the version is made."""
    for name in cohort(h, job):
        h.update(name, 10, **({} if loss is None else {"loss": loss}))
    h.now += seconds
    h.fold(norm)


def evaluate(h: Harness, job: str, version: int, metric: str = "loss", **values: float) -> None:
    """These clients report what they measured of a version."""
    for name, value in values.items():
        assignment = h.job(job).evaluations[version].phase.open[name]
        h.send(
            events.EvaluationReported(
                at=h.now,
                session=session(name),
                assignment=assignment.id,
                examples=10,
                metrics={metric: value},
                seconds=1.0,
            )
        )


def state(h: Harness, job: str) -> tuple[JobState, str]:
    return h.job(job).state, h.job(job).reason


def choosing(evaluation: str, clients: int = 2) -> str:
    return toml(
        rounds=f"max = 9\nclients = {clients}", rest=f'[selector]\nname = "power-of-choice"\nd = 4\n{evaluation}'
    )


def test_a_selector_is_told_the_losses_of_trainings_where_nobody_evaluates() -> None:
    h = Harness()
    h.join(*NAMES)
    job = h.submit(choosing(NO_EVALUATION))
    first = cohort(h, job)
    train(h, job, loss=0.1)
    second = cohort(h, job)
    assert sorted(first + second) == list(NAMES), "those first of whom nothing is known"
    train(h, job, loss=0.9)
    assert cohort(h, job) == second, "the greatest losses"


def test_a_draw_rests_on_evaluations_up_to_the_lag_and_is_the_same_after_a_restart() -> None:
    h = Harness()
    h.join(*NAMES)
    job = h.submit(choosing("[evaluate]\nlag = 1\n", clients=4))
    train(h, job)
    evaluate(h, job, 1, ada=4.0, bob=3.0, cyd=2.0, dee=1.0)
    train(h, job)
    evaluate(h, job, 2, ada=1.0, bob=2.0, cyd=3.0, dee=4.0)
    for name in NAMES:  # they leave room for a smaller cohort in round 4
        h.update(name)
    h.send(events.StopRequested(at=h.now, job=job))
    past = h.job(job).past
    losses = {name: past.candidate(name, {}).loss for name in NAMES}
    assert losses == {"ada": 4.0, "bob": 3.0, "cyd": 2.0, "dee": 1.0}, "version 1: two rounds are closed"
    assert past.candidate("ada", {"site": "north"}) == Candidate(
        name="ada", labels={"site": "north"}, examples=10, loss=4.0, seconds=1.0, last_round=2, rounds=2
    )
    h.restart()
    assert h.job(job).past == past


@pytest.mark.parametrize("restarted", [False, True])
def test_the_cohort_follows_from_losses_that_were_told_before(restarted: bool) -> None:
    h = Harness()
    h.join(*NAMES)
    job = h.submit(choosing("[evaluate]\nlag = 1\n"))
    train(h, job)
    evaluate(h, job, 1, ada=4.0, bob=3.0, cyd=2.0, dee=1.0)
    train(h, job)
    evaluate(h, job, 2, ada=1.0, bob=2.0, cyd=3.0, dee=4.0)
    train(h, job)
    evaluate(h, job, 3, ada=9.0, bob=9.0, cyd=1.0, dee=1.0)
    if restarted:
        h.restart()
        h.join(*NAMES)
    # Round 4 was drawn when version 3 was not evaluated; by version 2 the greatest losses are those of cyd and dee.
    assert cohort(h, job) == ["cyd", "dee"]
    train(h, job)
    assert cohort(h, job) == ["ada", "bob"], "round 5 may know of version 3"


def test_a_selector_that_reads_metrics_waits_for_those_that_count() -> None:
    h = Harness()
    h.join("ada", "bob")
    job = h.submit(choosing("[evaluate]\nlag = 0\n", clients=1))
    train(h, job)
    assert h.job(job).round is None, "version 1 is not evaluated yet"
    evaluate(h, job, 1, ada=1.0)
    assert h.job(job).round is None
    evaluate(h, job, 1, bob=2.0)
    assert h.job(job).round is not None


def stopping(rule: str, evaluation: str = NO_EVALUATION) -> str:
    return toml(rounds="max = 9\nclients = 1", rest=f"{evaluation}[[stop]]\n{rule}")


@pytest.mark.parametrize(("lag", "last"), [(0, 2), (1, 3), (2, 4)])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_stop_rule_sees_versions_up_to_the_lag(lag: int, last: int, restarts: bool) -> None:
    h = Harness()
    h.join("ada")
    job = h.submit(stopping('name = "target"\nat_least = 0.9', f"[evaluate]\nlag = {lag}\n"))
    for version in range(1, last + 1):
        train(h, job)
        if restarts:
            h.restart()
            h.join("ada")
        evaluate(h, job, version, "accuracy", ada={2: 0.95}.get(version, 0.5))
    assert h.job(job).rounds_done == last
    assert state(h, job) == (JobState.FINISHED, "version 2 has accuracy 0.95, at least 0.9")


def test_a_job_that_is_done_ends_when_its_evaluations_are_closed() -> None:
    h = Harness()
    h.join("ada")
    job = h.submit(stopping('name = "time"\nlimit = "20s"', "[evaluate]\nevery = 1\n"))
    train(h, job, seconds=15)
    evaluate(h, job, 1, ada=0.5)
    train(h, job, seconds=15)
    assert h.job(job).round is None
    assert h.job(job).state is JobState.RUNNING
    evaluate(h, job, 2, ada=0.5)
    reason = "its rounds took 30.0 s in all, and the limit is 20s"
    assert h.of_kind(records.JobStateChanged)[-1] == records.JobStateChanged(
        job=job, state=JobState.FINISHED, reason=reason
    )


def test_convergence_reads_the_norms_of_the_versions() -> None:
    h = Harness()
    h.join("ada")
    job = h.submit(stopping('name = "convergence"\nnorm = 0.1\nrounds = 2'))
    for norm in (0.5, 0.05, 0.2, 0.05, 0.01):
        assert h.job(job).state is JobState.RUNNING
        train(h, job, norm=norm)
    assert state(h, job) == (JobState.FINISHED, "the model changed by a norm below 0.1 for 2 rounds: 0.01")


def test_traffic_adds_up_to_the_end() -> None:
    h = Harness()
    h.join("ada")
    job = h.submit(stopping('name = "bytes"\nup = "1kB"'))
    for _ in range(2):
        assert h.job(job).state is JobState.RUNNING
        assignment = h.work("ada")
        assert assignment is not None
        h.send(events.BytesMoved(at=h.now, session=session("ada"), assignment=assignment.id, up=500, down=9000))
        train(h, job)
    assert state(h, job) == (JobState.FINISHED, "its rounds moved 1 kB up, and the limit is 1 kB")


def test_the_first_evaluation_of_a_version_counts() -> None:
    h = Harness()
    h.join("ada")
    job = h.submit(stopping('name = "target"\nat_least = 0.9', "[evaluate]\nlag = 0\n"))
    train(h, job)
    evaluate(h, job, 1, "accuracy", ada=0.5)
    h.send(events.EvaluateRequested(at=h.now, job=job, versions=(1,)))
    evaluate(h, job, 1, "accuracy", ada=0.99)
    train(h, job)
    evaluate(h, job, 2, "accuracy", ada=0.5)
    assert h.job(job).state is JobState.RUNNING


def test_a_job_draws_the_same_cohorts_whenever_its_process_dies() -> None:
    """A run in which the process dies after every round, and one in which it does not."""

    def cohorts(dies: bool) -> list[list[str]]:
        h = Harness()
        h.join(*NAMES)
        job = h.submit(toml(rounds="max = 9\nclients = 2", rest='[selector]\nname = "oort"\n'))
        found = []
        for version in range(1, 9):
            found.append(cohort(h, job))
            train(h, job)
            evaluate(
                h, job, version, "loss", **{name: (version * 7 + len(found) * ord(name[0])) % 11 for name in NAMES}
            )
            if dies:
                h.restart()
                h.join(*NAMES)
        return found

    assert cohorts(dies=True) == cohorts(dies=False)
