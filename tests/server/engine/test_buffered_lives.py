"""Asynchronous jobs from their beginning to their end, through restarts, operators and rivals."""

import pytest

from fedelta.errors import AssignmentEndedError, ConfigError
from fedelta_server.engine import Engine, effects, events, records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.buffered import NO_EVALUATION, THREE, at_work, begun, buffered, ended, folded, renew
from tests.server.engine.harness import Harness, digest_of, session, toml


def test_no_update_is_accepted_that_no_version_needs() -> None:
    h, job = begun("max = 1\nclients = 3\nbuffer = 2")
    slow = h.take("cyd")
    h.update("ada")
    h.update("bob")
    assert (ended(h, "cyd")[0].outcome, at_work(h, job)) == (Outcome.RELEASED, {})
    with pytest.raises(AssignmentEndedError, match="released"):
        renew(h, "cyd", slow.id)
    h.fold()
    assert h.job(job).state is JobState.FINISHED
    assert not h.folds


def test_an_extended_job_goes_on() -> None:
    h, job = begun("max = 1\nclients = 2\nbuffer = 1", "ada", "bob")
    h.update("ada")
    h.fold()
    assert h.job(job).state is JobState.FINISHED
    h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=2))
    assert at_work(h, job) == {"ada": (2, 1), "bob": (2, 1)}
    h.update("bob")
    h.fold()
    assert [each.number for each in h.closed()] == [1, 2]


def test_a_job_is_not_cut_below_the_updates_that_it_accepted() -> None:
    h, job = begun("max = 9\nclients = 3\nbuffer = 1")
    h.update("ada")
    h.update("bob")
    with pytest.raises(ConfigError, match="it accepted 2 updates, 1 for each"):
        h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=1))
    h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=2))
    assert at_work(h, job) == {}, "that is enough"
    h.fold()
    h.fold()
    assert h.job(job).state is JobState.FINISHED


def test_a_paused_job_asks_nobody_and_keeps_what_comes_in() -> None:
    h, job = begun("max = 2\nclients = 3\nbuffer = 1")
    h.send(events.PauseRequested(at=h.now, job=job))
    h.update("ada")
    h.update("cyd")
    assert list(at_work(h, job)) == [], "enough for two versions"
    assert not h.folds
    h.restart()
    assert not h.folds
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert folded(h.fold()) == [("ada", 0)]
    assert folded(h.fold()) == [("cyd", 1)]


def test_a_stopped_job_lets_everything_go() -> None:
    h, job = begun()
    update = h.update("ada")
    h.update("bob")
    h.take("cyd")
    step = h.send(events.StopRequested(at=h.now, job=job))
    assert ended(h, "cyd")[0].outcome is Outcome.CANCELLED
    (drop,) = (each for each in step.effects if isinstance(each, effects.DropParts))
    assert {name for _, _, name in drop.parts} == set(THREE)
    assert not drop.folded
    h.fold()
    assert not h.of_kind(records.VersionMade), "what is folded now is not wanted any more"
    assert h.engine.book.fate("ada", update.id) is False


def test_a_fold_that_fails_pauses_the_job_and_is_done_again_with_the_same_updates() -> None:
    h, job = begun("max = 2\nclients = 3\nbuffer = 2")
    h.update("bob")
    h.update("ada")
    fold = h.folds.pop()
    h.send(events.FoldFailed(at=h.now, job=job, round=1, attempt=fold.attempt, reason="the disk is full"))
    assert h.job(job).state is JobState.PAUSED
    assert h.job(job).reason == "round 1 could not be aggregated: the disk is full"
    h.update("cyd")
    assert not h.folds
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert h.folds == [fold]


def test_after_a_restart_the_fold_is_the_same_and_everybody_goes_on() -> None:
    h, job = begun("max = 3\nclients = 4\nbuffer = 2", *THREE, "dee")
    slow = h.take("dee")
    h.update("bob")
    h.restart()
    h.join(*THREE, "dee")
    assert at_work(h, job)["dee"] == (1, 1)
    assert list(h.engine.book.queues["dee"]) == [slow.id]
    h.update("ada")
    fold = h.folds[0]
    h.update("cyd")
    h.restart()
    assert h.folds == [fold], "bob and ada, in this order; cyd's is for the next version"
    h.join(*THREE, "dee")
    h.fold()
    h.restart()
    h.join(*THREE, "dee")
    h.update("dee")
    assert folded(h.fold()) == [("cyd", 1), ("dee", 1)]


def test_an_update_that_is_sent_twice_counts_once() -> None:
    h, _ = begun()
    assignment = h.update("ada")
    again = events.UpdateAccepted(
        at=h.now,
        session=session("ada"),
        assignment=assignment.id,
        examples=10,
        metrics={},
        seconds=1.0,
        digest=digest_of(assignment.id),
        length=100,
    )
    assert h.send(again).records == []
    h.restart()
    h.join(*THREE)
    assert h.send(again).records == []
    with pytest.raises(AssignmentEndedError, match="accepted"):
        renew(h, "ada", assignment.id)
    h.update("bob")
    assert folded(h.fold()) == [("ada", 0), ("bob", 0)]
    assert h.send(again).records == []


def fate(h: Harness, name: str, assignment_id: str) -> bool | None:
    """The same before and after a restart of the coordinator."""
    found = h.engine.book.fate(name, assignment_id)
    assert Engine(h.outline()).book.fate(name, assignment_id) is found
    return found


def test_what_became_of_an_update_is_known_for_all_of_a_clients() -> None:
    h, job = begun("max = 3\nclients = 2\nbuffer = 3", "ada", "bob")
    first, second = h.update("ada"), h.update("ada")
    assert (fate(h, "ada", first.id), fate(h, "ada", second.id)) == (None, None)
    slow = h.take("bob")
    assert fate(h, "bob", slow.id) is None
    h.update("ada")
    assert fate(h, "ada", first.id) is None, "the version is being made"
    h.fold()
    assert (fate(h, "ada", first.id), fate(h, "ada", second.id)) == (True, True)
    assert fate(h, "bob", slow.id) is None
    h.fail("bob")
    assert fate(h, "bob", slow.id) is False
    waits = h.update("ada")
    h.send(events.StopRequested(at=h.now, job=job))
    assert fate(h, "ada", waits.id) is False


def test_a_version_that_somebody_starts_from_is_not_pruned() -> None:
    h, job = begun("max = 9\nclients = 2\nbuffer = 1", "ada", "bob")
    h.update("ada")
    h.fold()
    h.take("bob")
    h.update("bob")
    h.fold()
    slow = h.take("bob")
    assert slow.round == 3
    for _ in range(2):
        h.update("ada")
        h.fold()
    h.send(events.PruneRequested(at=h.now, job=job, versions=(1, 2, 3)))
    assert h.job(job).pruned == {1, 3}
    h.update("bob")
    h.fold()
    h.send(events.PruneRequested(at=h.now, job=job, versions=(2,)))
    assert h.job(job).pruned == {1, 2, 3}


def test_the_files_of_a_version_are_let_go_when_it_is_made() -> None:
    h, job = begun("max = 9\nclients = 3\nbuffer = 2")
    h.update("bob")
    h.fail("cyd")
    h.update("ada")
    fold = h.folds.pop()
    step = h.send(
        events.Folded(at=h.now, job=job, round=1, attempt=fold.attempt, digest=b"d" * 32, length=1, manifest=b"")
    )
    (drop,) = (each for each in step.effects if isinstance(each, effects.DropParts))
    assert drop.parts == ((1, 1, "bob"), (1, 1, "ada"), (1, 1, "cyd"))
    assert drop.folded
    assert drop.oldest == 1, "bob works for round 1 once more"


def test_versions_are_evaluated_while_clients_train_on() -> None:
    h = Harness()
    h.join("ada", "bob")
    job = h.submit(buffered("max = 2\nclients = 2\nbuffer = 1", rest="[evaluate]\nevery = 1"))
    h.update("ada")
    h.fold()
    assert list(h.job(job).evaluations) == [1]
    assert at_work(h, job) == {"ada": (2, 1), "bob": (1, 1)}
    h.update("bob")
    h.fold()
    assert h.job(job).state is JobState.RUNNING, "its evaluations are open"
    while h.job(job).evaluations:
        h.evaluate(next(each.client for each in h.job(job).open_assignments()), accuracy=0.5)
    assert h.job(job).state is JobState.FINISHED
    assert [each.version for each in h.of_kind(records.EvaluationClosed)] == [1, 2]


def test_a_first_client_makes_the_initial_model() -> None:
    h = Harness()
    h.join("ada", "bob")
    job = h.submit(toml(rounds="max = 1\nbuffer = 2", rest=NO_EVALUATION, init="first-client"), initial=None)
    maker = next(h.job(job).open_assignments())
    assert maker.phase is PhaseKind.INITIALIZE
    h.update(maker.client)
    assert at_work(h, job) == {"ada": (1, 1), "bob": (1, 1)}


def turns(h: Harness, job: str) -> int:
    """How often clients were asked to train for a job."""
    opened = h.of_kind(records.PhaseOpened)
    return sum(len(each.clients) for each in opened if each.job == job and each.phase is PhaseKind.TRAIN)


@pytest.mark.parametrize("rival", ["buffer = 2\nmin_clients = 1", "min_clients = 4"])
def test_jobs_share_clients_in_proportion(rival: str) -> None:
    h = Harness()
    h.join(*THREE, "dee")
    many = h.submit(buffered("max = 900\nclients = 4\nbuffer = 2\nmin_clients = 1", job="share = 2"))
    few = h.submit(buffered(f"max = 900\nclients = 4\n{rival}"))
    for name in (*THREE, "dee") * 15:
        if h.work(name):
            h.update(name)
        while h.folds:
            h.fold()
    assert turns(h, many) == pytest.approx(2 * turns(h, few), rel=0.2)
