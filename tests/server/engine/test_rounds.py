"""Rounds, from events to records."""

import pytest

from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    ForeignAssignmentError,
    NameInUseError,
    NotFoundError,
    UnknownSessionError,
    WrongStateError,
)
from fedelta_server.engine import effects, events, records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.harness import INITIAL, Harness, digest_of, session, toml

THREE = ("ada", "bob", "cyd")


def closed_outcomes(closed: records.RoundClosed) -> dict[tuple[str, str], str]:
    return {(part.client, str(part.phase)): str(part.outcome) for part in closed.clients}


def test_a_job_runs_from_queued_to_finished() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2\nclients = 3", rest="[evaluate]\nevery = 0"))
    assert h.job(job).state is JobState.QUEUED
    h.join(*THREE)
    assert h.job(job).state is JobState.RUNNING
    for number in (1, 2):
        for name, examples in zip(THREE, (10, 20, 30), strict=True):
            assert h.update(name, examples, loss=float(examples)).phase is PhaseKind.TRAIN
        fold = h.fold()
        assert (fold.round, [(each.client, each.examples) for each in fold.updates]) == (
            number,
            [("ada", 10), ("bob", 20), ("cyd", 30)],
        )
    assert h.job(job).state is JobState.FINISHED
    assert [closed.number for closed in h.closed()] == [1, 2]
    last = h.closed()[-1]
    assert last.train_metrics == {"loss": pytest.approx((100 + 400 + 900) / 60)}
    assert last.digest == digest_of(f"{job}/2")


def test_the_next_round_opens_in_the_step_that_closes_the_last_one() -> None:
    h = Harness()
    h.submit(toml(rest="[evaluate]\nevery = 0"))
    h.join("ada")
    h.update("ada")
    fold = h.folds[0]
    step = h.send(
        events.Folded(
            at=h.now, job=fold.job, round=1, attempt=fold.attempt, digest=digest_of("x"), length=1, manifest=b""
        )
    )
    assert effects.Wake(("ada",)) in step.effects
    work = h.work("ada")
    assert work is not None
    assert work.round == 2


def test_a_round_opens_only_when_enough_clients_are_ready() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 2\nmin_clients = 3"))
    h.join("ada", "bob")
    assert h.job(job).state is JobState.QUEUED
    assert h.engine.waiting_for(h.job(job), h.now) == "3 clients; 2 ready"
    h.join("cyd")
    assert len(list(h.job(job).open_assignments())) == 2
    assert h.engine.waiting_for(h.job(job), h.now) == ""


def test_a_client_that_fell_silent_is_not_ready() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nmin_clients = 2"))
    h.join("ada")
    h.send(events.PollEnded(at=h.now, session=session("ada")))
    h.pass_time(60)
    h.join("bob")
    assert h.job(job).state is JobState.QUEUED
    h.send(events.PollStarted(at=h.now, session=session("ada")))
    assert h.job(job).state is JobState.RUNNING


def test_only_clients_that_offer_the_learner_take_part() -> None:
    h = Harness()
    job = h.submit(toml(job='learner = "xray:Net"'))
    h.join("ada")
    h.join("bob", learners=("xray:Net", "digits:Digits"))
    assert [assignment.client for assignment in h.job(job).open_assignments()] == ["bob"]


def test_one_missing_client_changes_one_place_of_the_draw() -> None:
    names = [f"client-{i:02}" for i in range(30)]

    def drawn(present: list[str]) -> set[str]:
        h = Harness()
        # The job is paused while clients join, so that all of them are ready when the round opens.
        job = h.submit(toml(rounds="max = 1\nclients = 10"))
        h.send(events.PauseRequested(at=h.now, job=job))
        h.join(*present)
        h.send(events.ResumeRequested(at=h.now, job=job))
        return {assignment.client for assignment in h.job(job).open_assignments()}

    everybody = drawn(names)
    assert len(everybody) == 10
    gone = min(everybody)
    without = drawn([name for name in names if name != gone])
    assert everybody - without == {gone}
    assert len(without) == 10


def test_a_fraction_is_rounded_up() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nfraction = 0.5\nmin_clients = 3"))
    h.join(*THREE)
    assert len(list(h.job(job).open_assignments())) == 2


def test_the_first_client_makes_the_initial_model() -> None:
    h = Harness()
    job = h.submit(toml(init="first-client", rounds="max = 1\nclients = 2\nmin_clients = 2"), None)
    h.join("ada")
    made = h.update("ada", 0)
    assert (made.phase, made.round) == (PhaseKind.INITIALIZE, 0)
    model = h.job(job).model
    assert model is not None
    assert (model.version, model.digest) == (0, digest_of(made.id))
    h.join("bob")
    assert {assignment.client for assignment in h.job(job).open_assignments()} == {"ada", "bob"}


def test_another_client_is_asked_when_the_first_cannot_make_the_model() -> None:
    h = Harness()
    job = h.submit(toml(init="first-client", rounds="max = 1\nattempts = 2"), None)
    h.join("ada")
    h.fail("ada")
    h.fail("ada")
    assert h.job(job).state is JobState.PAUSED
    assert "initial model failed twice" in h.job(job).reason
    assert "ValueError: no" in h.job(job).reason


@pytest.mark.parametrize("reason", ["ValueError: bad shard", "the trainer was killed by signal 9"])
def test_the_round_goes_on_without_a_client_that_fails(reason: str) -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1\nclients = 3", rest="[evaluate]\nevery = 0"))
    h.join(*THREE)
    h.update("ada")
    h.fail("bob", reason)
    h.update("cyd")
    assert [each.client for each in h.fold().updates] == ["ada", "cyd"]
    parts = {part.client: part for part in h.closed()[0].clients}
    assert (parts["bob"].outcome, parts["bob"].reason) == (Outcome.FAILED, reason)


def test_the_deadline_ends_a_phase() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 1\nclients = 3\ndeadline = "30s"', rest="[evaluate]\nevery = 0"))
    h.join(*THREE)
    h.update("ada")
    h.take("bob")
    h.take("cyd")
    h.pass_time(29)
    assert not h.folds
    h.pass_time(2)
    assert [each.client for each in h.fold().updates] == ["ada"]
    assert closed_outcomes(h.closed()[0])["bob", "train"] == "late"


def test_a_lease_that_is_renewed_holds_and_one_that_is_not_ends() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 1\nclients = 2\nlease = "20s"'))
    h.join("ada", "bob")
    ada = h.take("ada")
    h.take("bob")
    for _ in range(5):
        h.pass_time(15)
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=ada.id, progress=0.5))
    assert h.work("ada") is ada
    assert h.work("bob") is None


def test_moving_bytes_extend_the_lease_and_are_counted() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 1\nlease = "20s"', rest="[evaluate]\nevery = 0"))
    h.join("ada")
    ada = h.take("ada")
    for _ in range(5):
        h.pass_time(15)
        h.send(events.BytesMoved(at=h.now, session=session("ada"), assignment=ada.id, up=5, down=3))
    h.update("ada")
    h.fold()
    assert (h.closed()[0].bytes_up, h.closed()[0].bytes_down) == (25, 15)


def test_an_assignment_nobody_fetches_is_given_up() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1\nclients = 2"))
    h.join("ada", "bob")
    h.update("ada")
    h.pass_time(20)
    assert [each.client for each in h.fold().updates] == ["ada"]


def test_a_round_below_its_quorum_is_tried_again_and_then_the_job_pauses() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 2\nmin_updates = 2\nattempts = 3"))
    h.join("ada", "bob")
    for _ in range(3):
        h.update("ada")
        h.fail("bob")
    assert h.job(job).state is JobState.PAUSED
    assert "1 update came in, at least 2 are needed" in h.job(job).reason
    assert not h.folds
    h.send(events.ResumeRequested(at=h.now, job=job))
    ids = [h.update(name).id for name in ("ada", "bob")]
    assert ids[0].split(".")[2] == "4", "attempt numbers are never used twice"
    h.fold()
    for name in ("ada", "bob"):
        h.evaluate(name, accuracy=1.0)
    assert h.job(job).state is JobState.FINISHED
    assert h.closed()[0].attempts == 4


def test_a_fold_that_fails_pauses_the_job_and_keeps_the_updates() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1", rest="[evaluate]\nevery = 0"))
    h.join("ada")
    h.update("ada")
    fold = h.folds.pop()
    step = h.send(events.FoldFailed(at=h.now, job=job, round=1, attempt=fold.attempt, reason="disk full"))
    assert h.job(job).reason == "round 1 could not be aggregated: disk full"
    assert not any(isinstance(effect, effects.DropUpdates) for effect in step.effects)
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert h.folds == [fold]
    h.fold()
    assert h.job(job).state is JobState.FINISHED


def test_the_same_update_twice_counts_once() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 2"))
    h.join("ada", "bob")
    ada = h.update("ada")
    again = events.UpdateAccepted(
        at=h.now,
        session=session("ada"),
        assignment=ada.id,
        examples=10,
        metrics={},
        seconds=1.0,
        digest=digest_of(ada.id),
        length=100,
    )
    assert h.send(again).records == []
    assert h.engine.was_accepted(session("ada"), ada.id, digest_of(ada.id))
    assert not h.engine.was_accepted(session("bob"), ada.id, digest_of(ada.id))
    assert len(h.job(job).round.parts) == 1  # type: ignore[union-attr]  # the round is open


def test_refused_events_change_nothing() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 2"))
    h.join("ada", "bob")
    ada = h.take("ada")
    before = list(h.journal)
    result = {"at": h.now, "examples": 1, "metrics": {}, "seconds": 0.0}
    update = {"digest": b"d" * 32, "length": 1}
    with pytest.raises(ForeignAssignmentError):
        h.send(events.UpdateAccepted(session=session("bob"), assignment=ada.id, **result, **update))  # type: ignore[arg-type]  # mixed keywords
    with pytest.raises(UnknownSessionError):
        h.send(events.PollStarted(at=h.now, session="nobody"))
    with pytest.raises(AssignmentEndedError, match="unknown to the coordinator"):
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment="x"))
    with pytest.raises(BadRequestError, match="is to train"):
        h.send(events.EvaluationReported(session=session("ada"), assignment=ada.id, **result))  # type: ignore[arg-type]  # mixed keywords
    result["metrics"] = {"loss": float("nan")}
    with pytest.raises(BadRequestError, match="metric 'loss' of client 'ada'"):
        h.send(events.UpdateAccepted(session=session("ada"), assignment=ada.id, **result, **update))  # type: ignore[arg-type]  # mixed keywords
    with pytest.raises(NotFoundError):
        h.send(events.StopRequested(at=h.now, job="nope"))
    with pytest.raises(WrongStateError, match="not paused"):
        h.send(events.ResumeRequested(at=h.now, job=job))
    assert h.journal == before


def test_a_second_live_process_under_a_name_is_refused_and_a_dead_one_replaced() -> None:
    h = Harness()
    h.join("ada")

    def register(other: str) -> None:
        h.send(events.ClientRegistered(at=h.now, name="ada", session=other, learners=("digits:Digits",)))

    with pytest.raises(NameInUseError, match="'ada'"):
        register("another-session")
    h.send(events.PollEnded(at=h.now, session=session("ada"), disconnected=True))
    register("another-session")
    with pytest.raises(UnknownSessionError):
        h.send(events.PollStarted(at=h.now, session=session("ada")))
    with pytest.raises(NameInUseError):
        register(session("ada"))
    h.pass_time(20)
    register(session("ada"))


def test_a_session_is_that_of_one_client() -> None:
    h = Harness()
    h.join("ada")
    taken = events.ClientRegistered(at=h.now, name="bob", session=session("ada"), learners=("digits:Digits",))
    with pytest.raises(BadRequestError, match="the session is that of client 'ada'; open another one for 'bob'"):
        h.send(taken)
    h.send(events.ClientLeft(at=h.now, session=session("ada")))
    with pytest.raises(BadRequestError, match="'ada'"):
        h.send(taken)
    h.join("ada")
    assert [client.name for client in h.engine.clients] == ["ada"]


def test_a_process_that_takes_the_place_of_a_dead_one_goes_on_with_its_assignment() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1\nclients = 1"))
    h.join("ada")
    h.take("ada")
    assignment = h.engine.pending(session("ada"))
    learners = ("digits:Digits",)
    h.send(
        events.ClientRegistered(at=h.now, name="ada", session=session("ada"), learners=learners, software_version="2.0")
    )
    assert assignment is not None
    assert h.engine.pending(session("ada")) is assignment
    assert h.engine.clients.of_name("ada").software_version == "2.0"


def test_a_client_that_leaves_gives_its_assignment_back() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1\nclients = 2", rest="[evaluate]\nevery = 0"))
    h.join("ada", "bob")
    h.update("ada")
    h.take("bob")
    h.send(events.ClientLeft(at=h.now, session=session("bob")))
    h.fold()
    assert closed_outcomes(h.closed()[0]) == {("ada", "train"): "accepted", ("bob", "train"): "returned"}


def test_stop_cancels_what_is_open_and_nothing_can_change_a_stopped_job() -> None:
    h = Harness()
    job = h.submit(toml())
    h.join("ada")
    ada = h.take("ada")
    h.send(events.StopRequested(at=h.now, job=job, reason="enough"))
    assert (h.job(job).state, h.job(job).reason) == (JobState.STOPPED, "enough")
    with pytest.raises(AssignmentEndedError, match="the job was stopped"):
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=ada.id))
    with pytest.raises(WrongStateError):
        h.send(events.PauseRequested(at=h.now, job=job))


def test_a_fold_that_ends_after_the_job_was_stopped_is_ignored() -> None:
    h = Harness()
    job = h.submit(toml())
    h.join("ada")
    h.update("ada")
    h.send(events.StopRequested(at=h.now, job=job))
    h.fold()
    assert h.job(job).state is JobState.STOPPED
    assert not h.of_kind(records.VersionMade)


def test_pause_lets_the_open_round_finish() -> None:
    h = Harness()
    job = h.submit(toml(rest="[evaluate]\nevery = 0"))
    h.join("ada")
    h.send(events.PauseRequested(at=h.now, job=job, reason="lunch"))
    h.update("ada")
    h.fold()
    assert len(h.closed()) == 1
    assert h.work("ada") is None
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert h.work("ada") is not None


def test_jobs_take_turns() -> None:
    h = Harness()
    first, second = h.submit(toml(rest="[evaluate]\nevery = 0")), h.submit(toml(rest="[evaluate]\nevery = 0"))
    assert first != second
    h.join("ada")
    for _ in range(4):
        h.update("ada")
        if h.folds:
            h.fold()
    assert [closed.job for closed in h.closed()] == [first, second, first, second]


def test_a_restart_in_mid_round_asks_only_for_the_rest() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 3", rest="[evaluate]\nevery = 0"))
    h.join(*THREE)
    h.update("ada")
    bob = h.take("bob")
    h.restart()
    with pytest.raises(UnknownSessionError):
        h.send(events.PollStarted(at=h.now, session=session("ada")))
    h.join(*THREE)
    assert h.work("ada") is None
    again = h.work("bob")
    assert again is not None
    assert again.id == bob.id
    h.update("cyd")
    h.update("bob")
    assert [each.client for each in h.fold().updates] == ["ada", "bob", "cyd"]
    assert h.job(job).state is JobState.FINISHED


def test_a_restart_between_the_last_update_and_the_new_version_folds_again() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1", rest="[evaluate]\nevery = 0"))
    h.join("ada")
    h.update("ada")
    before = h.folds
    h.restart()
    assert h.folds == before
    assert h.folds[0].base == INITIAL
    h.fold()
    assert h.job(job).state is JobState.FINISHED


def test_any_sign_of_life_brings_a_client_back() -> None:
    h = Harness()
    h.join("ada", "bob")
    first = h.submit(toml(rounds="max = 1\nclients = 1"))
    h.update(next(h.job(first).open_assignments()).client)
    h.fold()
    h.send(events.PollEnded(at=h.now, session=session("bob"), disconnected=True))
    other = h.submit(toml(rounds="max = 1\nclients = 2"))
    assert h.job(other).state is JobState.QUEUED
    assert h.take("bob").phase is PhaseKind.EVALUATE
    assert h.job(other).state is JobState.RUNNING
