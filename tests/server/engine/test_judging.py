"""What is decided between rounds: stop rules, metrics that are waited for, plans that cannot be made any more."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fedelta.errors import ConfigError
from fedelta_server.engine import Engine, _state, events, records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.harness import Harness, durable, toml

TARGET = '[[stop]]\nname = "target"\nmetric = "accuracy"\nat_least = 0.9\n'
CONVERGED = '[[stop]]\nname = "convergence"\nnorm = 0.5\nrounds = 1\n'


def started(rest: str, rounds: str = "max = 9") -> tuple[Harness, str]:
    h = Harness()
    job = h.submit(toml(rounds=rounds, rest=rest))
    h.join("ada")
    return h, job


def phases(h: Harness) -> list[str]:
    return [f"{each.phase} {each.round}" for each in h.journal if isinstance(each, records.PhaseOpened)]


def run_round(h: Harness, norm: float = 1.0) -> None:
    """The client trains, and a version is made by so much of a change."""
    h.update("ada")
    fold = h.folds.pop(0)
    h.send(
        events.Folded(
            at=h.now,
            job=fold.job,
            round=fold.round,
            attempt=fold.attempt,
            digest=bytes([fold.round]) * 32,
            length=100,
            manifest=b"",
            norm=norm,
        )
    )


# Stop rules.


def test_a_rule_finishes_a_job_with_its_reason_after_the_last_version_is_evaluated() -> None:
    h, job = started(f"[evaluate]\nevery = 5\n{CONVERGED}")
    run_round(h)
    assert h.job(job).state is JobState.RUNNING
    run_round(h, norm=0.25)
    assert phases(h) == ["train 1", "train 2", "evaluate 2"], "no further round is opened"
    assert h.job(job).state is JobState.RUNNING
    assert "evaluation of version 2" in h.engine.waiting_for(h.job(job), h.now)
    h.evaluate("ada", accuracy=0.5)
    assert h.job(job).state is JobState.FINISHED
    assert "0.25" in h.job(job).reason


def test_without_evaluations_it_is_finished_at_once() -> None:
    h, job = started(f"[evaluate]\nevery = 0\n{CONVERGED}")
    run_round(h, norm=0.25)
    assert h.job(job).state is JobState.FINISHED
    assert h.work("ada") is None


def test_a_restart_changes_nothing_about_the_decision() -> None:
    h, job = started(CONVERGED)
    run_round(h, norm=0.25)
    h.restart()
    assert durable(Engine(h.outline())) == durable(h.engine)
    h.join("ada")
    h.evaluate("ada", accuracy=0.5)
    assert h.job(job).state is JobState.FINISHED
    assert "0.25" in h.job(job).reason


def test_a_job_that_a_rule_ended_goes_on_when_it_is_extended_and_is_judged_again_later() -> None:
    h, job = started(f"[evaluate]\nevery = 0\n{CONVERGED}")
    run_round(h, norm=0.25)
    h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=20))
    assert h.job(job).state is JobState.RUNNING
    h.restart()
    h.join("ada")
    assert h.work("ada") is not None, "its rules had their say"
    run_round(h)
    assert h.job(job).state is JobState.RUNNING
    run_round(h, norm=0.125)
    assert h.job(job).state is JobState.FINISHED
    assert h.job(job).rounds_done == 3


def test_the_last_round_needs_no_reason() -> None:
    h, job = started(f"[evaluate]\nevery = 0\n{CONVERGED}", rounds="max = 1")
    run_round(h, norm=0.25)
    assert (h.job(job).state, h.job(job).reason) == (JobState.FINISHED, "")


# Metrics that are waited for.


def test_what_decides_on_metrics_waits_for_those_of_versions_before_the_lag() -> None:
    h, job = started(TARGET)
    run_round(h)
    assert phases(h) == ["train 1", "evaluate 1", "train 2"], "with a lag of 1 the first version is not looked at yet"
    h.update("ada")
    assert h.take("ada").phase is PhaseKind.EVALUATE
    fold = h.folds[0]
    assert fold.round == 2
    h.fold()
    assert phases(h)[3:] == ["evaluate 2"], "round 3 is decided on version 1"
    assert h.engine.waiting_for(h.job(job), h.now) == "the evaluation of version 1, 2; 0 of 2 clients done"
    h.evaluate("ada", accuracy=0.5)
    assert phases(h)[4:] == ["train 3"]
    assert h.engine.waiting_for(h.job(job), h.now) == ""


def test_without_a_lag_training_waits_for_every_evaluation() -> None:
    h, job = started(f"[evaluate]\nlag = 0\n{TARGET}")
    run_round(h)
    assert phases(h) == ["train 1", "evaluate 1"]
    h.evaluate("ada", accuracy=0.5)
    assert phases(h)[2:] == ["train 2"]
    run_round(h)
    h.evaluate("ada", accuracy=0.95)
    assert h.job(job).state is JobState.FINISHED
    assert "0.95" in h.job(job).reason
    assert h.job(job).rounds_done == 2


def test_who_does_not_answer_is_waited_for_until_the_deadline() -> None:
    h, job = started(f"[evaluate]\nlag = 0\n{TARGET}", rounds='max = 9\ndeadline = "100s"\nlease = "1000s"')
    run_round(h)
    h.take("ada")
    h.pass_time(99)
    assert phases(h) == ["train 1", "evaluate 1"]
    h.pass_time(2)
    assert [part.outcome for part in h.evaluations()[0].clients] == [Outcome.LATE]
    assert phases(h)[2:] == ["train 2"]
    assert h.job(job).state is JobState.RUNNING


def test_rules_that_read_no_metrics_wait_for_none() -> None:
    h, _ = started(f"[evaluate]\nlag = 0\n{CONVERGED}")
    run_round(h)
    assert phases(h) == ["train 1", "evaluate 1", "train 2"]


def test_a_decision_on_metrics_is_the_same_after_a_restart() -> None:
    h, job = started(TARGET)
    run_round(h)
    run_round_and_evaluate(h, 0.95)
    h.restart()
    h.join("ada")
    assert h.job(job).rounds_done == 2
    assert "train 3" not in phases(h), "version 1 has reached the target"
    while h.work("ada") is not None:
        h.evaluate("ada", accuracy=0.5)
    assert h.job(job).state is JobState.FINISHED
    assert "0.95" in h.job(job).reason


def run_round_and_evaluate(h: Harness, accuracy: float) -> None:
    h.update("ada")
    h.evaluate("ada", accuracy=accuracy)
    h.fold()


# Plans.


def test_an_aggregator_that_needs_many_updates_makes_rounds_need_them() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nattempts = 1", rest='[aggregator]\nname = "krum"\nbyzantine = 1\n'))
    names = ("ada", "bob", "cyd", "dee")
    h.join(*names)
    assert h.job(job).state is JobState.QUEUED
    assert h.engine.waiting_for(h.job(job), h.now) == "5 clients; 4 ready"
    h.join("eve")
    for name in names:
        h.update(name)
    h.fail("eve")
    assert not h.folds
    assert "4 updates came in, at least 5 are needed" in h.job(job).reason


@contextmanager
def gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package of a part is not installed."""

    def plan_of(_: object) -> object:
        raise ConfigError("aggregator.name = 'mine' is not known")

    with monkeypatch.context() as patched:
        patched.setattr(_state, "plan_of", plan_of)
        yield


def test_a_job_whose_plan_cannot_be_made_any_more_pauses_and_goes_on_when_it_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    h, job = started("", rounds='max = 2\nlease = "20s"')
    h.update("ada")
    with gone(monkeypatch):
        h.restart()
        assert (h.job(job).state, h.job(job).reason) == (JobState.PAUSED, "aggregator.name = 'mine' is not known")
        h.join("ada")
        h.pass_time(100)
        with pytest.raises(ConfigError, match="'mine' is not known"):
            h.send(events.ResumeRequested(at=h.now, job=job))
        assert not h.folds
    h.restart()
    assert [fold.round for fold in h.folds] == [1], "the update is not lost"
    h.fold()
    h.join("ada")
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert h.work("ada") is not None


def test_facts_of_an_update_reach_its_part_and_its_fold() -> None:
    h, _ = started("[evaluate]\nevery = 0")
    work = h.take("ada")
    h.send(
        events.UpdateAccepted(
            at=h.now,
            session="session-of-ada",
            assignment=work.id,
            examples=10,
            metrics={},
            seconds=1.0,
            digest=b"d" * 32,
            length=1,
            facts={"steps": 7.0},
        )
    )
    (update,) = h.folds[0].updates
    assert (update.facts, update.round, update.attempt, update.staleness) == ({"steps": 7.0}, 1, 1, 0)
    assert h.folds[0].population == 1
    h.fold()
    assert h.closed()[0].clients[0].facts == {"steps": 7.0}
