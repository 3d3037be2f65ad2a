"""Asynchronous rounds (FedBuff, Nguyen et al. 2022), from events to records."""

import pytest

from fedelta.errors import AssignmentEndedError, ConfigError
from fedelta_server.engine import Engine, effects, events, records, task_seed
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.harness import Harness, digest_of, session, toml

THREE = ("ada", "bob", "cyd")
NO_EVALUATION = "[evaluate]\nevery = 0"


def buffered(rounds: str = "max = 3\nclients = 3\nbuffer = 2", *, job: str = "", rest: str = NO_EVALUATION) -> str:
    return toml(job=job, rounds=rounds, rest=rest)


def begun(rounds: str = "max = 3\nclients = 3\nbuffer = 2", *names: str) -> tuple[Harness, str]:
    """A job whose clients have begun."""
    h = Harness()
    h.join(*(names or THREE))
    return h, h.submit(buffered(rounds))


def at_work(h: Harness, job: str) -> dict[str, tuple[int, int]]:
    """The rounds and attempts of those who train, by client."""
    open_ = h.job(job).open_assignments()
    return {each.client: (each.round, each.attempt) for each in open_ if each.phase is PhaseKind.TRAIN}


def folded(fold: effects.Fold) -> list[tuple[str, int]]:
    """The clients in a fold in its order, and how stale their updates are."""
    return [(each.client, each.staleness) for each in fold.updates]


def ended(h: Harness, client: str) -> list[records.Participation]:
    found = (each.participation for each in h.of_kind(records.ParticipationEnded))
    return [part for part in found if part.client == client]


def renew(h: Harness, name: str, assignment: str) -> None:
    h.send(events.AssignmentRenewed(at=h.now, session=session(name), assignment=assignment))


def test_a_version_is_made_of_every_k_updates_in_the_order_in_which_they_are_accepted() -> None:
    h, _ = begun()
    h.update("cyd", 30, loss=3.0)
    assert not h.folds
    h.update("ada", 10, loss=1.0)
    fold = h.folds[0]
    assert (fold.round, fold.base.version) == (1, 0)
    assert folded(fold) == [("cyd", 0), ("ada", 0)]
    assert [(each.examples, each.round, each.attempt) for each in fold.updates] == [(30, 1, 1), (10, 1, 1)]
    h.fold()
    closed = h.closed()[0]
    assert closed.number == 1
    assert [(part.client, part.outcome) for part in closed.clients] == [("cyd", "accepted"), ("ada", "accepted")]
    assert closed.train_metrics == {"loss": pytest.approx((90 + 10) / 40)}
    assert closed.digest == h.of_kind(records.VersionMade)[-1].digest
    numbers = [each.number for each in h.of_kind(records.ParticipationEnded)]
    assert numbers == [1, 2], "the recorded order of acceptance"


def test_an_update_from_an_older_version_counts_with_its_staleness() -> None:
    h, job = begun()
    h.update("ada")
    h.update("bob")
    h.fold()
    assert at_work(h, job) == {"ada": (1, 2), "bob": (2, 1), "cyd": (1, 1)}, "bob's made the version"
    h.update("cyd")
    h.update("bob")
    fold = h.fold()
    assert fold.base.version == 1
    assert folded(fold) == [("cyd", 1), ("bob", 0)]
    assert {part.client: part.staleness for part in h.closed()[1].clients} == {"cyd": 1, "bob": 0}


def test_a_client_is_asked_again_as_soon_as_it_is_done_under_another_id_and_seed() -> None:
    h, job = begun("max = 2\nclients = 2\nbuffer = 3", "ada", "bob")
    first = h.update("ada")
    assert at_work(h, job) == {"ada": (1, 2), "bob": (1, 1)}
    second = h.update("ada")
    assert first.id != second.id
    assert h.job(job).seed_of(first) == task_seed(7, 1, PhaseKind.TRAIN, "ada"), "as in synchronous rounds"
    assert h.job(job).seed_of(second) != h.job(job).seed_of(first), "that would give the same update twice"
    h.update("bob")
    fold = h.fold()
    assert [(each.client, each.attempt) for each in fold.updates] == [("ada", 1), ("ada", 2), ("bob", 1)]
    assert len({each.digest for each in fold.updates}) == 3


def test_updates_that_are_accepted_while_a_version_is_made_are_for_the_next_one() -> None:
    h, _ = begun("max = 3\nclients = 4\nbuffer = 1", *THREE, "dee")
    h.update("ada")
    h.update("bob")
    h.update("cyd")
    assert [(each.round, folded(each)) for each in h.folds] == [(1, [("ada", 0)])], "one fold at a time"
    assert h.work("ada") is None, "whoever is asked now would start from a version that is old in a moment"
    h.fold()
    assert [(each.round, folded(each)) for each in h.folds] == [(2, [("bob", 1)])]
    h.fold()
    assert folded(h.fold()) == [("cyd", 2)]


def test_so_many_clients_are_at_work_at_any_time() -> None:
    h, job = begun("max = 9\nclients = 2\nbuffer = 2", *THREE, "dee", "eve")
    for _ in range(6):
        assert len(at_work(h, job)) == 2
        h.update(min(at_work(h, job)))
        while h.folds:
            h.fold()
    assert len({each for opened in h.of_kind(records.PhaseOpened) for each in opened.clients}) > 2, "others have turns"


@pytest.mark.parametrize(("share", "expected"), [("fraction = 0.5\n", 2), ("", 4)])
def test_without_a_number_a_share_of_the_clients_is_at_work(share: str, expected: int) -> None:
    h, job = begun(f"max = 2\n{share}buffer = 3", *THREE, "dee")
    h.join("eve")
    assert len(at_work(h, job)) == expected + 1, "of five"
    assert h.engine.waiting_for(h.job(job), h.now) == ""


def test_the_first_clients_wait_for_each_other_and_later_ones_for_nobody() -> None:
    h = Harness()
    h.join("ada")
    job = h.submit(buffered("max = 2\nclients = 2\nbuffer = 2\nmin_clients = 3"))
    h.join("bob")
    assert (at_work(h, job), h.job(job).state) == ({}, JobState.QUEUED)
    assert h.engine.waiting_for(h.job(job), h.now) == "3 clients; 2 ready"
    h.join("cyd")
    assert len(at_work(h, job)) == 2
    h.update(min(at_work(h, job)))
    assert len(at_work(h, job)) == 2
    assert h.engine.waiting_for(h.job(job), h.now) == ""


def test_an_update_that_would_be_too_stale_does_not_count_and_its_client_is_told_early() -> None:
    h, job = begun("max = 9\nclients = 3\nbuffer = 1\nmax_staleness = 1")
    slow = h.take("cyd")
    h.update("ada")
    assert slow.id in h.engine.book.assignments, "it would be 1 behind"
    h.update("bob")
    # The fold of version 1 runs, and there is an update for version 2: from now on cyd's would be in version 3.
    assert ended(h, "cyd")[0].outcome is Outcome.LATE
    assert ended(h, "cyd")[0].reason == "its update would be 2 versions behind; rounds.max_staleness = 1"
    with pytest.raises(AssignmentEndedError, match=r"late \(its update would be 2 versions behind; .* = 1\)"):
        renew(h, "cyd", slow.id)
    h.fold()
    h.fold()
    assert at_work(h, job)["cyd"] == (3, 1), "it starts from the newest version"
    assert [(part.client, part.outcome) for part in h.closed()[0].clients] == [("ada", "accepted"), ("cyd", "late")]


def test_an_update_of_the_greatest_staleness_counts() -> None:
    h, _ = begun("max = 9\nclients = 3\nbuffer = 1\nmax_staleness = 1")
    h.take("cyd")
    h.update("ada")
    h.update("cyd")
    h.fold()
    assert folded(h.fold()) == [("cyd", 1)]


def test_a_client_that_gives_no_update_is_replaced_and_not_asked_again_before_the_next_version() -> None:
    h, job = begun("max = 9\nclients = 2\nbuffer = 2", *THREE)
    lame, other = sorted(at_work(h, job))
    h.fail(lame)
    assert lame not in at_work(h, job)
    assert len(at_work(h, job)) == 2
    h.update(other)
    assert lame not in at_work(h, job)
    h.update(min(at_work(h, job)))
    h.fold()
    assert [part.outcome for part in h.closed()[0].clients] == ["accepted", "accepted", "failed"]
    h.fail(min(set(at_work(h, job)) - {lame}))
    assert lame in at_work(h, job)


def test_a_client_that_falls_silent_or_declines_is_replaced() -> None:
    h, job = begun('max = 2\nclients = 1\nbuffer = 2\nlease = "20s"', "ada", "bob")
    (first,) = at_work(h, job)
    (other,) = {"ada", "bob"} - {first}
    h.take(first)
    h.send(events.PollEnded(at=h.now, session=session(first)))
    h.pass_time(21)
    assert ended(h, first)[0].outcome is Outcome.LOST
    assert list(at_work(h, job)) == [other]
    h.decline(other)
    assert at_work(h, job) == {}
    assert h.job(job).state is JobState.RUNNING, "nobody failed for a reason of the job's"


def test_a_client_that_leaves_hands_back_its_work() -> None:
    h, job = begun("max = 2\nclients = 1\nbuffer = 2", "ada", "bob")
    (first,) = at_work(h, job)
    h.send(events.ClientLeft(at=h.now, session=session(first)))
    assert ended(h, first)[0].outcome is Outcome.RETURNED
    assert len(at_work(h, job)) == 1


def test_a_training_without_an_end_is_given_up_at_the_deadline() -> None:
    h, job = begun('max = 2\nclients = 2\nbuffer = 2\ndeadline = "100s"\nlease = "60s"', "ada", "bob")
    hangs = h.take("ada")
    h.take("bob")
    h.pass_time(50)
    h.update("bob")
    h.take("bob")
    renew(h, "ada", hangs.id)
    h.pass_time(49)
    renew(h, "ada", hangs.id)
    assert "ada" in at_work(h, job)
    h.pass_time(2)
    assert (ended(h, "ada")[0].outcome, ended(h, "ada")[0].reason) == (Outcome.LATE, "the deadline passed")
    assert list(at_work(h, job)) == ["bob"], "bob's own time is not over"


def test_a_job_in_which_nobody_gets_anywhere_is_paused_with_the_reason() -> None:
    h, job = begun("max = 2\nclients = 2\nbuffer = 2\nattempts = 2", "ada", "bob")
    for _ in range(2):
        assert h.job(job).state is JobState.RUNNING
        for name in ("ada", "bob"):
            h.fail(name, "ValueError: no data")
    assert h.job(job).state is JobState.PAUSED
    assert h.job(job).reason == (
        "round 1 failed twice; the last time: 2 clients in a row gave no update "
        "(ada: ValueError: no data; bob: ValueError: no data)"
    )
    assert [each.attempt for each in h.of_kind(records.RoundFailed)] == [1, 2]
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert set(at_work(h, job)) == {"ada", "bob"}


def test_a_few_drop_outs_ask_few_others_and_an_update_makes_them_forgotten() -> None:
    names = tuple(f"client-{i}" for i in range(9))
    h, job = begun("max = 2\nclients = 2\nbuffer = 3\nattempts = 2", *names)
    for _ in range(3):
        h.fail(min(at_work(h, job)))
    assert len(at_work(h, job)) == 1, "more drop-outs than clients at work are not chance: nobody further is asked"
    h.update(min(at_work(h, job)))
    assert len(at_work(h, job)) == 2
    assert not h.of_kind(records.RoundFailed)


def test_the_clients_of_an_attempt_that_failed_are_asked_again_before_others_get_them() -> None:
    h, job = begun("max = 9\nclients = 1\nbuffer = 1\nattempts = 9", "ada")
    rival = h.submit(buffered("max = 9\nclients = 1\nbuffer = 1", job="share = 0.001"))
    h.update("ada")
    h.fold()
    assert list(at_work(h, rival)) == ["ada"], "its turn: it had none"
    h.update("ada")
    h.fold()
    h.fail("ada")
    assert list(at_work(h, job)) == ["ada"], "its rival had more"


def test_one_client_that_always_fails_does_not_stop_a_job() -> None:
    h, job = begun("max = 4\nclients = 2\nbuffer = 1\nattempts = 1", "ada", "bob")
    while h.job(job).state is JobState.RUNNING:
        if "ada" in at_work(h, job):
            h.fail("ada")
        h.update("bob")
        h.fold()
    assert h.job(job).state is JobState.FINISHED
    assert all(version.clients == ["bob"] for version in h.of_kind(records.VersionMade))


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
