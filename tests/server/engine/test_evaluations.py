"""Evaluations: beside the rounds that follow, in the order of their clients, and on an operator's word."""

import math

import pytest

from fedelta.errors import AssignmentEndedError, BadRequestError, NotFoundError, WrongStateError
from fedelta_server.engine import Engine, effects, events, records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.harness import INITIAL, Harness, digest_of, durable, session, toml

THREE = ("ada", "bob", "cyd")
NO_EVALUATION = "[evaluate]\nevery = 0"


def serves(h: Harness, name: str) -> list[str]:
    """What a client has to do, in its order."""
    return [f"{each.phase} {each.round}" for each in h.engine.book.in_turn(session_name(h, name))]


def session_name(h: Harness, name: str) -> str:
    return h.engine.clients.of_session(session(name)).name


def request(h: Harness, job: str, *versions: int) -> None:
    h.send(events.EvaluateRequested(at=h.now, job=job, versions=versions))


def run_round(h: Harness, *names: str) -> None:
    """Clients train, after evaluations whose turn it is, and others are left open."""
    for name in names:
        while (work := h.work(name)) is not None and work.phase is PhaseKind.EVALUATE:
            h.evaluate(name)
        h.update(name)
    h.fold()


def outcomes(closed: records.EvaluationClosed) -> dict[str, Outcome]:
    return {part.client: part.outcome for part in closed.clients}


# Beside the rounds that follow.


def test_an_evaluation_goes_on_beside_the_next_round_and_is_averaged_by_examples() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2\nclients = 3"))
    h.join(*THREE)
    run_round(h, *THREE)
    assert [closed.number for closed in h.closed()] == [1], "the round does not wait"
    assert [serves(h, name) for name in THREE] == [["train 2", "evaluate 1"]] * 3
    for name in THREE:
        h.update(name)
    for name, examples, accuracy in zip(THREE, (1, 1, 2), (0.5, 0.7, 0.9), strict=True):
        h.evaluate(name, examples, accuracy=accuracy)
    (closed,) = h.evaluations()
    assert closed.version == 1
    assert closed.metrics == {"accuracy": pytest.approx((0.5 + 0.7 + 2 * 0.9) / 4)}
    h.fold()
    assert h.job(job).state is JobState.RUNNING
    assert h.engine.waiting_for(h.job(job), h.now) == "the evaluation of version 2; 0 of 3 clients done"
    for name in THREE:
        assert h.job(job).state is JobState.RUNNING
        h.evaluate(name, accuracy=1.0)
    assert h.job(job).state is JobState.FINISHED
    assert [each.version for each in h.evaluations()] == [1, 2]


@pytest.mark.parametrize(("every", "evaluated"), [(0, []), (1, [1, 2, 3]), (2, [2, 3])])
def test_it_takes_place_as_often_as_asked_and_after_the_last_round(every: int, evaluated: list[int]) -> None:
    h = Harness()
    h.submit(toml(rounds="max = 3", rest=f"[evaluate]\nevery = {every}"))
    h.join("ada")
    for _ in range(3):
        run_round(h, "ada")
    while h.work("ada") is not None:
        h.evaluate("ada", accuracy=0.5)
    assert [closed.version for closed in h.evaluations()] == evaluated


def test_results_that_never_come_block_no_training() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 5\nclients = 2\nmin_clients = 2\ndeadline = "100s"\nlease = "10000s"'))
    h.join("ada", "bob")
    run_round(h, "ada", "bob")
    h.update("ada")
    h.evaluate("ada")
    h.update("bob")
    assert h.take("bob").phase is PhaseKind.EVALUATE
    h.fold()
    assert serves(h, "bob") == ["evaluate 1", "train 3", "evaluate 2"], "what is begun is done first"
    assert h.work("ada") is not None
    h.pass_time(101)
    assert outcomes(h.evaluations()[0]) == {"ada": Outcome.ACCEPTED, "bob": Outcome.LATE}
    assert serves(h, "bob")[0] == "train 3"


def test_what_waits_behind_training_has_no_clock_that_runs() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 3\nlease = "20s"\ndeadline = "100s"'))
    h.join("ada")
    run_round(h, "ada")
    training = h.take("ada")
    for _ in range(6):
        h.pass_time(15)
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=training.id))
    assert serves(h, "ada") == ["train 2", "evaluate 1"]
    h.update("ada")
    h.pass_time(14)
    h.evaluate("ada", accuracy=1.0)
    assert outcomes(h.evaluations()[0]) == {"ada": Outcome.ACCEPTED}, "neither fetched late nor past its deadline"


def test_it_is_overtaken_by_one_training_at_most() -> None:
    h = Harness()
    first = h.submit(toml(rounds="max = 1"))
    second, third = (h.submit(toml(rounds="max = 5", rest=NO_EVALUATION)) for _ in range(2))
    h.join("ada")
    h.update("ada")
    assert h.take("ada").job == second
    h.fold()
    h.pass_time(50)
    h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=h.take("ada").id))
    h.pass_time(50)
    h.update("ada")
    assert [each.job for each in h.engine.book.in_turn("ada")] == [first, third]
    h.evaluate("ada", accuracy=1.0)
    (closed,) = h.evaluations()
    assert (closed.job, closed.metrics) == (first, {"accuracy": 1.0})
    assert h.job(first).state is JobState.FINISHED
    assert h.take("ada").job == third


def test_a_client_that_is_slower_than_the_rounds_evaluates_fewer_versions() -> None:
    h = Harness()
    job = h.submit(toml(rounds='max = 9\nclients = 1\nlease = "10000s"\ndeadline = "100000s"'))
    h.join("ada", "bob")
    (trains,) = (name for name in ("ada", "bob") if h.work(name) is not None)
    slow = "bob" if trains == "ada" else "ada"
    # Who evaluates is free to train, and this one is not to: it takes part in evaluations only.
    h.send(
        events.ClientRegistered(
            at=h.now, name=slow, session=session(slow), learners=("digits:Digits",), evaluates_only=True
        )
    )
    run_round(h, trains)
    assert h.take(slow).round == 1
    for _ in range(4):
        h.update(trains)
        h.evaluate(trains)
        h.fold()
    assert serves(h, slow) == ["evaluate 1", "evaluate 4", "evaluate 5"]
    assert [(each.version, outcomes(each)[slow]) for each in h.evaluations()] == [(2, "late"), (3, "late")]
    h.evaluate(slow, accuracy=1.0)
    assert h.evaluations()[-1].version == 1
    assert h.job(job).round is not None


def test_clients_that_evaluate_only_never_train_and_are_averaged_apart() -> None:
    h = Harness()
    h.join("ada")
    h.send(
        events.ClientRegistered(
            at=h.now, name="held-out", session=session("held-out"), learners=("digits:Digits",), evaluates_only=True
        )
    )
    job = h.submit(toml(rounds="max = 1\nclients = 2\nmin_clients = 1"))
    run_round(h, "ada")
    h.evaluate("ada", 30, accuracy=0.5)
    h.evaluate("held-out", 10, accuracy=0.75)
    (closed,) = h.evaluations()
    assert (closed.metrics, closed.central) == ({"accuracy": 0.5}, {"accuracy": 0.75})
    assert {part.client: part.central for part in closed.clients} == {"ada": False, "held-out": True}
    assert h.job(job).state is JobState.FINISHED


def test_bytes_are_counted_where_they_belong() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1"))
    h.join("ada")
    h.send(events.BytesMoved(at=h.now, session=session("ada"), assignment=h.take("ada").id, up=7, down=5))
    run_round(h, "ada")
    h.send(events.BytesMoved(at=h.now, session=session("ada"), assignment=h.take("ada").id, up=1, down=3))
    h.evaluate("ada")
    assert (h.closed()[0].bytes_up, h.closed()[0].bytes_down) == (7, 5)
    assert (h.evaluations()[0].bytes_up, h.evaluations()[0].bytes_down) == (1, 3)


# What operators do meanwhile.


def test_a_paused_job_lets_open_evaluations_finish() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2"))
    h.join("ada")
    run_round(h, "ada")
    h.send(events.PauseRequested(at=h.now, job=job))
    run_round(h, "ada")
    h.evaluate("ada")
    h.evaluate("ada")
    assert [each.version for each in h.evaluations()] == [1, 2]
    assert h.job(job).state is JobState.FINISHED


def test_stop_ends_evaluations_with_what_came_in() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2\nclients = 2\nmin_clients = 2"))
    h.join("ada", "bob")
    run_round(h, "ada", "bob")
    h.update("ada")
    h.evaluate("ada", accuracy=1.0)
    waiting = next(each for each in h.engine.book.in_turn("bob") if each.phase is PhaseKind.EVALUATE)
    h.send(events.StopRequested(at=h.now, job=job))
    (closed,) = h.evaluations()
    assert (outcomes(closed), closed.metrics) == (
        {"ada": Outcome.ACCEPTED, "bob": Outcome.CANCELLED},
        {"accuracy": 1.0},
    )
    assert h.work("bob") is None
    with pytest.raises(AssignmentEndedError, match="the job was stopped"):
        h.engine.find(session("bob"), waiting.id)


def test_a_job_can_be_extended_while_its_last_version_is_evaluated() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1"))
    h.join("ada")
    run_round(h, "ada")
    h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=2))
    assert serves(h, "ada") == ["train 2", "evaluate 1"]
    run_round(h, "ada")
    h.evaluate("ada")
    h.evaluate("ada")
    assert h.job(job).state is JobState.FINISHED


def test_a_version_that_is_being_evaluated_is_not_pruned() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 3"))
    h.join("ada")
    run_round(h, "ada")
    run_round(h, "ada")
    h.send(events.PruneRequested(at=h.now, job=job, versions=(1,)))
    assert not h.of_kind(records.VersionsPruned)
    h.evaluate("ada")
    step = h.send(events.PruneRequested(at=h.now, job=job, versions=(1,)))
    assert [type(each) for each in step.effects] == [effects.DropModels]


# On an operator's word.


def finished(rounds: int = 2) -> tuple[Harness, str]:
    h = Harness()
    job = h.submit(toml(rounds=f"max = {rounds}\nclients = 2\nmin_clients = 2"))
    h.join("ada", "bob")
    for _ in range(rounds):
        run_round(h, "ada", "bob")
    while h.work("ada") is not None:
        h.evaluate("ada", accuracy=0.5)
        h.evaluate("bob", accuracy=0.5)
    assert h.job(job).state is JobState.FINISHED
    return h, job


def test_any_kept_version_is_evaluated_on_request_also_of_a_job_that_has_ended() -> None:
    h, job = finished()
    request(h, job, 2, 0)
    assert h.job(job).state is JobState.FINISHED
    assert serves(h, "ada") == ["evaluate 0", "evaluate 2"]
    for _ in range(2):
        h.evaluate("ada", accuracy=0.25)
        h.evaluate("bob", accuracy=0.75)
    assert [(each.version, each.attempt) for each in h.evaluations()] == [(1, 1), (2, 1), (0, 1), (2, 2)]
    assert h.job(job).state is JobState.FINISHED
    again = [each for each in h.journal if isinstance(each, records.PhaseOpened) and each.requested]
    assert [each.round for each in again] == [0, 2]


def test_the_clients_of_a_stopped_job_can_be_asked() -> None:
    h = Harness()
    job = h.submit(toml())
    h.join("ada")
    h.send(events.StopRequested(at=h.now, job=job))
    request(h, job, 0)
    h.evaluate("ada", accuracy=0.5)
    assert h.job(job).state is JobState.STOPPED
    assert h.evaluations()[0].metrics == {"accuracy": 0.5}


def test_many_versions_wait_for_a_slow_client_if_they_were_asked_for() -> None:
    h, job = finished(rounds=4)
    request(h, job, 0, 1, 2, 3, 4)
    assert len(serves(h, "ada")) == 5
    h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=5))
    for name in ("ada", "bob"):
        h.update(name)
        for _ in range(5):
            h.evaluate(name)
    assert all(set(outcomes(each).values()) == {Outcome.ACCEPTED} for each in h.evaluations())


def test_what_is_open_already_is_not_opened_again() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2"))
    h.join("ada")
    run_round(h, "ada")
    before = list(h.journal)
    request(h, job, 1)
    assert h.journal == before


def test_what_cannot_be_evaluated_is_refused_with_the_reason() -> None:
    h, job = finished(rounds=3)
    h.send(events.PruneRequested(at=h.now, job=job, versions=(1,)))
    with pytest.raises(NotFoundError, match="has no version 7, 9"):
        request(h, job, 2, 9, 7)
    with pytest.raises(NotFoundError, match=r"cannot be evaluated, 1: pruned.*--keep-versions"):
        request(h, job, 1, 2)
    with pytest.raises(BadRequestError, match="0 versions"):
        request(h, job)
    with pytest.raises(NotFoundError, match="'nope'"):
        request(h, "nope", 1)
    for name in ("ada", "bob"):
        h.send(events.ClientLeft(at=h.now, session=session(name)))
    with pytest.raises(WrongStateError, match="no client that is connected can evaluate"):
        request(h, job, 2)


# Restarts.


def test_a_restart_goes_on_with_all_evaluations_that_are_open() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 3\nclients = 2\nmin_clients = 2"))
    h.join("ada", "bob")
    for _ in range(2):
        run_round(h, "ada", "bob")
    h.evaluate("ada", accuracy=0.25)
    assert sorted(h.job(job).evaluations) == [1, 2]
    h.restart()
    assert durable(Engine(h.outline())) == durable(h.engine)
    h.join("ada", "bob")
    assert serves(h, "ada") == ["train 3", "evaluate 2"]
    assert serves(h, "bob") == ["train 3", "evaluate 1", "evaluate 2"]
    h.update("bob")
    h.evaluate("bob", accuracy=0.75)
    assert (h.evaluations()[0].version, h.evaluations()[0].metrics) == (1, {"accuracy": 0.5})
    h.update("ada")
    h.fold()
    while h.work("bob") is not None:
        h.evaluate("bob")
    while h.work("ada") is not None:
        h.evaluate("ada")
    assert h.job(job).state is JobState.FINISHED


def test_a_client_that_was_evaluating_when_the_coordinator_died_goes_on_with_it() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 3\nlease = "60s"'))
    h.join("ada")
    run_round(h, "ada")
    h.update("ada")
    evaluating = h.take("ada")
    assert evaluating.phase is PhaseKind.EVALUATE
    h.fold()
    h.restart()
    h.join("ada")
    for _ in range(10):
        h.pass_time(50)
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=evaluating.id))
    assert serves(h, "ada")[:2] == ["evaluate 1", "train 3"], "no lease of training ran meanwhile"
    assert math.isinf(h.engine.book.in_turn("ada")[1].lease_until)


def test_a_journal_in_whose_rounds_versions_were_evaluated_is_read() -> None:
    job = "digits-1"
    part = records.Participation(client="ada", phase=PhaseKind.TRAIN, outcome=Outcome.ACCEPTED, examples=10)
    evaluated = records.Participation(client="ada", phase=PhaseKind.EVALUATE, outcome=Outcome.ACCEPTED, examples=10)

    def phase(number: int, kind: PhaseKind, *names: str) -> records.Record:
        return records.PhaseOpened(job=job, round=number, attempt=1, phase=kind, clients=list(names))

    def until_evaluated(number: int) -> list[records.Record]:
        return [
            phase(number, PhaseKind.TRAIN, "ada"),
            records.ParticipationEnded(job=job, round=number, attempt=1, participation=part, digest=b"u", length=1),
            records.VersionMade(job=job, version=number, digest=digest_of(str(number)), length=1, attempt=1),
            phase(number, PhaseKind.EVALUATE, "ada", "bob"),
            records.ParticipationEnded(job=job, round=number, attempt=1, participation=evaluated),
        ]

    submitted = records.JobSubmitted(job=job, toml=toml(), submitted_unix=0.0, digest=INITIAL.digest, length=100)
    lost = records.Participation(client="bob", phase=PhaseKind.EVALUATE, outcome=Outcome.LOST, reason="silent")
    closed = records.RoundClosed(
        job=job,
        number=1,
        attempts=1,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
        clients=[part, evaluated, lost],
        metrics={"accuracy": 0.5},
        train_metrics={},
        digest=digest_of("1"),
    )
    h = Harness()
    h.journal = [
        submitted,
        records.JobStateChanged(job=job, state=JobState.RUNNING),
        *until_evaluated(1),
        records.ParticipationEnded(job=job, round=1, attempt=1, participation=lost),
        closed,
        *until_evaluated(2),
    ]
    h.restart()
    assert h.job(job).rounds_done == 2, "the round that waited for its evaluation does so no longer"
    assert list(h.job(job).evaluations) == [2]
    h.join("ada", "bob")
    h.check_rebuilt()
    h.evaluate("bob", accuracy=1.0)
    (now,) = h.evaluations()
    assert outcomes(now) == {"ada": Outcome.ACCEPTED, "bob": Outcome.ACCEPTED}
    assert h.job(job).state is JobState.FINISHED
