"""More clients than are needed, clients that drop out, and what those hear that come too late."""

import pytest

from fedelta.errors import AssignmentEndedError
from fedelta_server.engine import Assignment, Engine, effects, events, records
from fedelta_server.engine.words import JobState, Outcome
from tests.server.engine.harness import Harness, digest_of, session, toml

FIVE = ("ada", "bob", "cyd", "dee", "eve")
NO_EVALUATION = "[evaluate]\nevery = 0"


def ready(rounds: str, *names: str, init: str = "model.safetensors") -> tuple[Harness, str]:
    """A job whose first round opens when all of these clients are there."""
    h = Harness()
    job = h.submit(toml(rounds=rounds, rest=NO_EVALUATION, init=init))
    h.send(events.PauseRequested(at=h.now, job=job))
    h.join(*names)
    h.send(events.ResumeRequested(at=h.now, job=job))
    return h, job


def working(h: Harness, job: str) -> list[str]:
    return [assignment.client for assignment in h.job(job).open_assignments()]


def outcomes(h: Harness) -> dict[str, Outcome]:
    return {part.client: part.outcome for part in h.closed()[-1].clients}


def push(h: Harness, assignment: Assignment) -> None:
    h.send(
        events.UpdateAccepted(
            at=h.now,
            session=session(assignment.client),
            assignment=assignment.id,
            examples=1,
            metrics={},
            seconds=1.0,
            digest=digest_of(assignment.id),
            length=100,
        )
    )


# More clients than are needed.


@pytest.mark.parametrize(
    ("rounds", "asked"),
    [
        ("clients = 3", 3),
        ("clients = 3\nover_select = 1.3", 4),
        ("clients = 2\nover_select = 1.5", 3),
        ("clients = 2\nover_select = 10", 5),
        ("fraction = 0.4\nover_select = 1.5", 3),
        ("fraction = 0.1\nmin_updates = 2", 2),
    ],
)
def test_so_many_times_as_many_clients_are_asked_as_far_as_they_are_ready(rounds: str, asked: int) -> None:
    h, job = ready(f"max = 1\n{rounds}", *FIVE)
    assert len(working(h, job)) == asked


def test_a_product_is_rounded_up_as_people_would() -> None:
    h, job = ready("max = 1\nclients = 10\nover_select = 1.1", *(f"client-{number:02}" for number in range(20)))
    assert len(working(h, job)) == 11, "in binary 1.1 * 10 is a little more than 11"


def test_a_round_opens_without_those_who_would_be_too_many() -> None:
    h, job = ready("max = 1\nclients = 2\nover_select = 2", "ada", "bob")
    assert working(h, job) == ["ada", "bob"]


def test_the_first_updates_count_and_the_others_are_released() -> None:
    h, job = ready("max = 1\nclients = 2\nover_select = 2", "ada", "bob", "cyd", "dee")
    h.update("dee")
    assert working(h, job) == ["ada", "bob", "cyd"]
    h.update("bob")
    assert working(h, job) == []
    assert [each.client for each in h.fold().updates] == ["bob", "dee"], "in the order of names, not of arrival"
    released, accepted = Outcome.RELEASED, Outcome.ACCEPTED
    assert outcomes(h) == {"ada": released, "bob": accepted, "cyd": released, "dee": accepted}
    assert h.job(job).state is JobState.FINISHED


def test_who_is_released_hears_why() -> None:
    h, _ = ready("max = 1\nclients = 1\nover_select = 2", "ada", "bob")
    ada = h.take("ada")
    h.update("bob")
    with pytest.raises(AssignmentEndedError, match=r"released \(the round has the update that it wanted\)"):
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=ada.id))
    with pytest.raises(AssignmentEndedError, match="released"):
        push(h, ada)
    assert [each.client for each in h.fold().updates] == ["bob"]


def test_drop_outs_among_too_many_clients_need_no_replacement() -> None:
    h, job = ready("max = 1\nclients = 2\nover_select = 1.5", *FIVE)
    first, second, third = working(h, job)
    h.fail(first)
    assert working(h, job) == [second, third]
    h.update(third)
    h.update(second)
    assert [each.client for each in h.fold().updates] == [second, third]


def test_a_released_client_is_free_for_the_next_round() -> None:
    h, job = ready("max = 2\nclients = 1\nover_select = 2", "ada", "bob")
    h.update("ada")
    h.fold()
    assert working(h, job) == ["ada", "bob"]


# Drop-outs.


def drop(h: Harness, name: str, how: Outcome) -> None:
    if how is Outcome.FAILED:
        h.fail(name)
    elif how is Outcome.DECLINED:
        h.decline(name)
    elif how is Outcome.RETURNED:
        h.send(events.ClientLeft(at=h.now, session=session(name)))
    else:
        h.pass_time(16)


@pytest.mark.parametrize("how", [Outcome.FAILED, Outcome.DECLINED, Outcome.RETURNED, Outcome.LOST])
def test_a_client_that_drops_out_is_replaced_by_the_next_of_the_draw(how: Outcome) -> None:
    h, job = ready("max = 1\nclients = 2", "ada", "bob", "cyd")
    stays, gone = working(h, job)
    (other,) = {"ada", "bob", "cyd"} - {stays, gone}
    h.update(stays)
    h.take(gone) if how is not Outcome.LOST else None
    drop(h, gone, how)
    assert working(h, job) == [other]
    h.update(other)
    assert [each.client for each in h.fold().updates] == sorted([stays, other])
    assert outcomes(h)[gone] is how


def test_its_work_is_announced() -> None:
    h, job = ready("max = 1\nclients = 1", "ada", "bob")
    (gone,) = working(h, job)
    (other,) = {"ada", "bob"} - {gone}
    step = h.send(
        events.AssignmentFailed(
            at=h.now, session=session(gone), assignment=h.take(gone).id, outcome=Outcome.FAILED, reason="no"
        )
    )
    assert effects.Wake((other,)) in step.effects
    assert [type(record) for record in step.records] == [records.ParticipationEnded, records.PhaseExtended]


def test_who_comes_later_is_asked_while_there_is_time() -> None:
    h, job = ready('max = 1\nclients = 2\ndeadline = "100s"\nlease = "50s"', "ada", "bob")
    ada = h.take("ada")
    h.fail("bob")
    assert working(h, job) == ["ada"]
    h.pass_time(45)
    h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=ada.id))
    h.join("cyd")
    assert working(h, job) == ["ada", "cyd"]


def test_nobody_is_asked_when_less_than_a_lease_is_left() -> None:
    h, job = ready('max = 1\nclients = 2\ndeadline = "100s"\nlease = "60s"', "ada", "bob")
    ada = h.take("ada")
    h.fail("bob")
    h.pass_time(41)
    h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=ada.id))
    h.join("cyd")
    assert working(h, job) == ["ada"]


def test_a_replacement_does_not_move_the_deadline() -> None:
    h, job = ready('max = 1\nclients = 1\ndeadline = "100s"\nlease = "60s"', "ada", "bob")
    h.pass_time(20)
    (other,) = working(h, job)
    assert outcomes_so_far(h, job) == [Outcome.LOST]
    h.take(other)
    for _ in range(3):
        h.pass_time(30)
        if h.job(job).round is not None and other in working(h, job):
            h.send(events.AssignmentRenewed(at=h.now, session=session(other), assignment=h.take(other).id))
    assert [record.participation.outcome for record in ended(h)] == [Outcome.LOST, Outcome.LATE]


def outcomes_so_far(h: Harness, job: str) -> list[Outcome]:
    round_ = h.job(job).round
    return [part.outcome for part in round_.parts] if round_ is not None else []


def ended(h: Harness) -> list[records.ParticipationEnded]:
    return [record for record in h.journal if isinstance(record, records.ParticipationEnded)]


def test_a_learner_that_fails_everywhere_does_not_go_through_all_clients() -> None:
    h, job = ready("max = 1\nclients = 2\nattempts = 1", *(f"client-{number:02}" for number in range(20)))
    while working(h, job):
        h.fail(working(h, job)[0])
    assert len(ended(h)) == 4, "two, and two in their place"
    assert h.job(job).state is JobState.PAUSED


def test_clients_that_decline_are_all_asked() -> None:
    h, job = ready("max = 1\nclients = 1", *FIVE)
    for _ in range(4):
        h.decline(working(h, job)[0])
    h.update(working(h, job)[0])
    h.fold()
    assert h.job(job).state is JobState.FINISHED


def test_a_paused_job_asks_nobody_any_more() -> None:
    h, job = ready("max = 1\nclients = 2", "ada", "bob", "cyd")
    h.send(events.PauseRequested(at=h.now, job=job))
    first, second = working(h, job)
    h.fail(first)
    assert working(h, job) == [second]
    h.send(events.ResumeRequested(at=h.now, job=job))
    assert len(working(h, job)) == 2


def test_nobody_is_asked_for_a_round_that_is_being_folded() -> None:
    h, job = ready("max = 1\nclients = 2", "ada", "bob")
    h.update("ada")
    h.fail("bob")
    h.join("cyd")
    assert working(h, job) == []
    h.fold()
    assert h.job(job).state is JobState.FINISHED


def test_where_all_ready_clients_train_nobody_is_replaced() -> None:
    h, job = ready("max = 1\nmin_clients = 2", "ada", "bob")
    h.take("ada")
    h.fail("bob")
    h.join("cyd")
    assert working(h, job) == ["ada"]


def test_a_replacement_counts_as_a_turn() -> None:
    h, job = ready("max = 1\nclients = 1", "ada", "bob")
    h.fail(working(h, job)[0])
    assert h.job(job).turns == 2


def test_a_restart_goes_on_with_the_replacement() -> None:
    h, job = ready("max = 1\nclients = 2\nover_select = 1.5", *FIVE)
    asked = working(h, job)
    for name in asked[:2]:
        h.fail(name)
    before = working(h, job)
    assert len(before) == 2
    h.restart()
    assert working(h, job) == before
    h.join(*FIVE)
    for name in before:
        h.update(name)
    assert [each.client for each in h.fold().updates] == before


# What is too late.


def too_late(h: Harness, assignment: Assignment) -> str:
    """What the client hears, before and after a restart of the coordinator."""
    heard = []
    for engine in (h.engine, Engine(h.outline())):
        registered = events.ClientRegistered(
            at=h.now, name=assignment.client, session=session(assignment.client), learners=("digits:Digits",)
        )
        engine.handle(registered)
        with pytest.raises(AssignmentEndedError) as caught:
            engine.find(session(assignment.client), assignment.id)
        heard.append(caught.value.message.partition("no longer open: ")[2])
    assert heard[0] == heard[1]
    return heard[0]


def test_who_comes_too_late_hears_what_happened() -> None:
    h, _ = ready('max = 9\nclients = 2\ndeadline = "30s"', "ada", "bob")
    late = h.take("bob")
    h.update("ada")
    h.pass_time(31)
    assert too_late(h, late) == "late (the deadline passed)"
    h.fold()
    assert too_late(h, late) == "late (the deadline passed)", "the next round is open"


def test_who_was_released_or_whose_job_was_stopped_hears_so_later_as_well() -> None:
    h, job = ready("max = 9\nclients = 1\nover_select = 2", "ada", "bob")
    released = h.take("ada")
    h.update("bob")
    h.fold()
    stopped = h.take("bob")
    h.send(events.StopRequested(at=h.now, job=job))
    assert too_late(h, released) == "released (the round has the update that it wanted)"
    assert too_late(h, stopped) == "cancelled (the job was stopped)"


def test_an_update_is_known_again_after_a_restart_though_its_round_is_closed() -> None:
    h, _ = ready("max = 9\nclients = 1", "ada")
    ada = h.update("ada")
    h.fold()
    h.engine = Engine(h.outline())
    h.engine.resume(h.now)
    h.join("ada")
    before = list(h.journal)
    push(h, ada)
    assert h.journal == before, "it counts once, and is answered as the first time"
    assert h.engine.was_accepted(session("ada"), ada.id, digest_of(ada.id))


def test_of_what_is_forgotten_it_is_known_that_its_round_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ENDINGS_KEPT", 1)
    h, job = ready("max = 9\nclients = 2", "ada", "bob")
    ada = h.update("ada")
    h.update("bob")
    h.fold()
    assert too_late(h, ada) == f"round 1 of job {job!r} is closed"


# Clocks after a restart.


def test_leases_and_deadlines_begin_anew_after_a_restart_whatever_the_clock_says() -> None:
    h, job = ready('max = 1\nclients = 1\ndeadline = "100s"\nlease = "40s"', "ada")
    h.take("ada")
    h.pass_time(39)
    h.now = 5.0  # the clock of another process, or of the machine after it was started again
    h.restart()
    h.join("ada")
    for _ in range(2):
        h.pass_time(39)
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=h.take("ada").id))
    assert working(h, job) == ["ada"]
    h.pass_time(23)
    assert ended(h)[0].participation.outcome is Outcome.LATE


# Below the quorum.


def test_a_round_below_its_quorum_asks_a_fresh_cohort_and_says_so_when_it_gives_up() -> None:
    h, job = ready("max = 1\nclients = 1\nattempts = 2", "ada", "bob", "cyd", "dee")
    cohorts = []
    while h.job(job).state is JobState.RUNNING:
        attempt = h.job(job).attempts
        h.fail(working(h, job)[0], "no")
        cohorts.append(attempt)
    assert cohorts == [1, 1, 2, 2]
    reason = h.job(job).reason
    assert reason.startswith("round 1 failed twice; the last time: 0 updates came in, at least 1 is needed (")
    assert len({record.participation.client for record in ended(h)}) > 2
    h.send(events.ResumeRequested(at=h.now, job=job))
    h.update(working(h, job)[0])
    h.fold()
    assert h.job(job).state is JobState.FINISHED


def test_a_single_failure_is_not_counted_in_words() -> None:
    h, job = ready("max = 1\nclients = 1\nattempts = 1", "ada")
    h.fail("ada", "no")
    assert h.job(job).reason == "round 1 failed: 0 updates came in, at least 1 is needed (ada: no)"


def test_clients_that_fail_alike_are_told_of_once() -> None:
    h, job = ready("max = 1\nattempts = 1", "ada", "bob", "cyd", "dan", "eve")
    h.fail("bob", "no data")
    for name in ("ada", "cyd", "dan", "eve"):
        h.fail(name, "no loss()")
    assert h.job(job).reason.endswith("(bob: no data; ada, cyd, dan and 1 other: no loss())")
