"""Jobs that are given another number of rounds."""

import pytest

from fedelta.errors import ConfigError, NotFoundError, WrongStateError
from fedelta_server.engine import events, records
from fedelta_server.engine.words import JobState, PhaseKind
from tests.server.engine.harness import Harness, toml


def extend(h: Harness, job: str, rounds_max: int) -> None:
    h.send(events.ExtendRequested(at=h.now, job=job, rounds_max=rounds_max))


def finished(every: int = 0) -> tuple[Harness, str]:
    """A job of two rounds, and its only client."""
    h = Harness()
    job = h.submit(toml(rounds="max = 2", rest=f"[evaluate]\nevery = {every}"))
    h.join("ada")
    while h.job(job).state is JobState.RUNNING:
        run_round(h)
    return h, job


def run_round(h: Harness) -> None:
    """What its client has to do until a version is made, and evaluations that it has nothing else to do but."""
    h.update("ada")
    while (work := h.work("ada")) is not None and work.phase is PhaseKind.EVALUATE:
        h.evaluate("ada", accuracy=0.5)
    h.fold()
    while (work := h.work("ada")) is not None and work.phase is PhaseKind.EVALUATE:
        h.evaluate("ada", accuracy=0.5)


def test_a_finished_job_goes_on() -> None:
    h, job = finished()
    assert h.job(job).state is JobState.FINISHED
    extend(h, job, 4)
    assert (h.job(job).state, h.job(job).rounds_max) == (JobState.RUNNING, 4)
    work = h.work("ada")
    assert work is not None
    assert work.round == 3
    run_round(h)
    run_round(h)
    assert h.job(job).state is JobState.FINISHED
    assert [closed.number for closed in h.closed()] == [1, 2, 3, 4]


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.PAUSED])
def test_a_job_that_has_not_ended_stays_in_its_state(state: JobState) -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2"))
    if state is not JobState.QUEUED:
        h.join("ada")
    if state is JobState.PAUSED:
        h.send(events.PauseRequested(at=h.now, job=job))
    extend(h, job, 5)
    assert (h.job(job).state, h.job(job).rounds_max) == (state, 5)


def test_a_job_may_be_given_fewer_rounds_than_it_had() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 100", rest="[evaluate]\nevery = 0"))
    h.join("ada")
    run_round(h)
    extend(h, job, 2)
    run_round(h)
    assert h.job(job).state is JobState.FINISHED


def test_evaluation_after_the_last_round_follows_the_number() -> None:
    h, job = finished(every=2)
    extend(h, job, 5)
    while h.job(job).state is JobState.RUNNING:
        run_round(h)
    assert [closed.version for closed in h.evaluations()] == [2, 4, 5]


def test_the_number_must_be_one_that_the_job_has_not_reached() -> None:
    h, job = finished()
    for rounds_max in (0, 2, 1_000_001):
        with pytest.raises(ConfigError, match="it has run 2; name a number from 3 to 1000000"):
            extend(h, job, rounds_max)
    assert not h.of_kind(records.JobExtended)
    with pytest.raises(NotFoundError):
        extend(h, "nope", 5)


def test_a_stopped_job_stays_stopped_and_says_how_to_go_on() -> None:
    h = Harness()
    job = h.submit(toml())
    h.send(events.StopRequested(at=h.now, job=job))
    with pytest.raises(WrongStateError, match=r'is stopped .* init = "job:digits-1@latest"'):
        extend(h, job, 5)


def test_nothing_but_an_extension_changes_a_finished_job() -> None:
    h, job = finished()
    with pytest.raises(WrongStateError, match="fedelta job extend"):
        h.send(events.PauseRequested(at=h.now, job=job))


def test_a_paused_job_finishes_the_round_that_is_open_also_after_a_restart() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 2", rest="[evaluate]\nevery = 0"))
    h.join("ada")
    h.update("ada")
    h.send(events.PauseRequested(at=h.now, job=job))
    h.restart()
    h.join("ada")
    h.fold()
    assert [closed.number for closed in h.closed()] == [1]
    assert h.job(job).state is JobState.PAUSED
    assert h.work("ada") is None
