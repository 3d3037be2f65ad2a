"""Asynchronous rounds (FedBuff, Nguyen et al. 2022), from events to records."""

import pytest

from fedelta.errors import AssignmentEndedError
from fedelta_server.engine import events, records, task_seed
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.buffered import THREE, at_work, begun, buffered, ended, folded, renew
from tests.server.engine.harness import Harness, session


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
        "round 1 failed twice; the last time: 2 clients in a row gave no update (ada, bob: ValueError: no data)"
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
