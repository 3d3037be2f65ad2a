"""What must be true of an engine after every step."""

import math
from collections import Counter

from fedelta_server.engine import Engine, Job, records
from fedelta_server.engine._state import Phase
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


def check(engine: Engine, now: float) -> None:
    """Raises `AssertionError` where an invariant is broken."""
    open_by_job = {
        assignment.id: assignment for job in engine.book.jobs.values() for assignment in job.open_assignments()
    }
    assert open_by_job == engine.book.assignments
    queued = [assignment for queue in engine.book.queues.values() for assignment in queue.values()]
    assert {assignment.id: assignment for assignment in queued} == engine.book.assignments
    assert all(engine.book.queues.values()), "an empty queue makes its client look busy"
    for job in engine.book.jobs.values():
        assert job.rounds_done <= job.rounds_max
        assert (job.rounds_done == job.rounds_max) == (job.state is JobState.FINISHED)
        check_pruned(job)
        check_declines(engine, job, now)
        check_not_kept_waiting(engine, job, now)
        if job.state.ended:
            assert job.round is None
        if job.model is not None and job.round is None:
            assert job.model.version == job.rounds_done
        if job.round is None:
            continue
        parts = [(part.client, part.phase) for part in job.round.parts]
        assert len(parts) == len(set(parts)), "a client's part of a phase ended twice"
        ended = {part.client for part in job.round.parts if part.phase is job.round.phase.kind}
        assert ended | set(job.round.phase.open) == set(job.round.phase.clients)
        assert ended.isdisjoint(job.round.phase.open)
        assert job.round.folding <= (not job.round.phase.open and job.round.phase.kind is PhaseKind.TRAIN)
        check_enough(job.round.phase, job.round.parts)
        check_dropouts_replaced(engine, job, now)
        for part in job.round.parts:
            assert part.outcome is Outcome.ACCEPTED or part.reason
        if job.round.phase.open:
            assert engine.wake_at() is not None, "nothing would end an assignment whose client is gone"
            limited = job.round.phase.deadline < math.inf
            assert limited or not all(each.begun for each in job.open_assignments()), "the phase may last for ever"


def check_pruned(job: Job) -> None:
    """What a job starts from, and what its open round works with, is there."""
    assert job.pruned <= job.versions.keys()
    kept = {model.version: model for model in job.kept_versions()}
    for model in (job.initial, job.model):
        assert model is None or kept[model.version].digest == model.digest


def check_declines(engine: Engine, job: Job, now: float) -> None:
    """Nobody is asked again who declined, and who may be asked again later is not forgotten."""
    for client in engine.clients:
        decline = client.declines(job.id, now)
        if decline is None or job.round is None:
            continue
        assert client.name not in job.round.phase.open, "a client that declined works for the job"
        assert decline.until == float("inf") or engine.wake_at() is not None


def check_enough(phase: Phase, parts: list[records.Participation]) -> None:
    """No more results count than the phase wants, and nobody works on what is not needed or is told so too early."""
    outcomes = Counter(part.outcome for part in parts if part.phase is phase.kind)
    assert phase.accepted == outcomes[Outcome.ACCEPTED]
    assert phase.dropped == outcomes.total() - outcomes[Outcome.ACCEPTED] - outcomes[Outcome.DECLINED]
    if phase.wanted:
        assert phase.accepted <= phase.wanted
        assert not (phase.open and phase.accepted == phase.wanted)
    if outcomes[Outcome.RELEASED]:
        assert 0 < phase.wanted == phase.accepted


def check_dropouts_replaced(engine: Engine, job: Job, now: float) -> None:
    """A round that is short of clients, and may ask, has asked all whom it can, and no more than it wants."""
    if job.round is None or not job.round.phase.wanted:
        return
    phase, spec = job.round.phase, job.spec.rounds
    assert len(phase.open) + phase.accepted <= math.ceil(phase.wanted * spec.over_select)
    if len(phase.open) + phase.accepted >= phase.wanted or not phase.open or not job.runnable:
        return
    if phase.dropped > phase.wanted or phase.deadline - now <= spec.lease:
        return
    for client in engine.clients:
        assert not client.fits(job, now) or client.name in phase.clients or client.name in engine.book.queues


def check_not_kept_waiting(engine: Engine, job: Job, now: float) -> None:
    """A job that waits lacks idle clients, unless they are held for one that folds."""
    idle = [each for each in engine.clients if each.fits(job, now) and each.name not in engine.book.queues]
    folding = any(other.round is not None and other.round.folding for other in engine.book.jobs.values())
    assert not job.waits or folding or len(idle) < job.ready_needed


def check_nobody_overtaken(engine: Engine, decided: list[records.Record], now: float) -> None:
    """No job opened a round before a rival that has had less and lacks nothing but idle clients."""
    jobs = engine.book.jobs
    opened = {
        each.job for each in decided if isinstance(each, records.PhaseOpened) and each.phase != PhaseKind.EVALUATE
    }
    if any(job.round is not None and job.round.folding for job in jobs.values()):
        return
    for waiting in jobs.values():
        fit = {client.name for client in engine.clients if client.fits(waiting, now)}
        if not waiting.waits or waiting.standing is None or len(fit) < waiting.ready_needed:
            continue
        for job in (jobs[each] for each in opened):
            rival = any(client.fits(job, now) for client in engine.clients if client.name in fit)
            assert not rival or job.level <= waiting.standing
