"""What must be true of an engine's asynchronous jobs after every step."""

import math
from collections.abc import Collection

from fedelta_server.engine import Engine, Job
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


def check_buffer(engine: Engine, job: Job, buffer: Buffer, *, held_back: bool) -> None:
    """Raises `AssertionError` where an invariant is broken. `held_back`: clients may be held for a job that folds."""
    if job.model is None or job.state.ended:
        assert not any((buffer.open, buffer.held, buffer.others, buffer.folding))
        return
    assert job.round is None
    check_held(job, buffer)
    check_open(engine, job, buffer)
    assert buffer.folding <= buffer.full, "a version is made of fewer updates than it needs"
    assert buffer.folding or not buffer.full or job.state is JobState.PAUSED, "a version could be made"
    assert job.updates_missing >= 0, "an update was accepted that no version needs"
    assert job.updates_missing or not buffer.open, "nobody needs what they do"
    stuck = buffer.drops and not (buffer.open or buffer.full or held_back)
    assert not stuck or not job.runnable, "an attempt is over and was not told to have failed"


def check_held(job: Job, buffer: Buffer) -> None:
    """The updates that wait are numbered in their order, none is too stale, and each will be what it was said to be."""
    for number, held in enumerate(buffer.held, job.rounds_done * buffer.size + 1):
        record = held.record
        version = (number - 1) // buffer.size + 1
        assert record.number == number
        assert record.participation.outcome is Outcome.ACCEPTED
        assert record.participation.staleness == version - record.round
        assert 0 <= record.participation.staleness <= job.spec.rounds.max_staleness
        assert held.population >= 1


def check_open(engine: Engine, job: Job, buffer: Buffer) -> None:
    """Who is at work can give an update that counts, starts from a version that is there, and will come to an end."""
    if job.spec.rounds.clients is not None:
        assert len(buffer.open) <= job.spec.rounds.clients
    for name, phase in buffer.open.items():
        (assignment,) = phase.assignments
        assert (assignment.client, phase.kind) == (name, PhaseKind.TRAIN)
        assert assignment.round - 1 in job.versions.keys() - job.pruned
        assert 0 <= job.staleness(assignment) <= job.spec.rounds.max_staleness
        assert engine.wake_at() is not None, "nothing would end an assignment whose client is gone"
        assert phase.deadline < math.inf or not assignment.begun, "it may last for ever"


def check_enough_at_work(buffer: Buffer, job: Job, fit: Collection[str], idle: Collection[str]) -> None:
    """Of a job that could ask clients: it asked all whom it can, up to as many as are to be at work."""
    rounds = job.spec.rounds
    wanted = rounds.clients or max(1, math.ceil(round((rounds.fraction or 1.0) * len(fit), 9)))
    free = set(idle) - buffer.left_out
    at_work = len(buffer.open) >= wanted or buffer.drops > wanted
    assert at_work or not free or len(free) < job.ready_needed
