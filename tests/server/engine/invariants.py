"""What must be true of an engine after every step."""

from fedelta_server.engine import Engine
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


def check(engine: Engine) -> None:
    """Raises `AssertionError` where an invariant is broken."""
    open_by_job = {
        assignment.id: assignment for job in engine.book.jobs.values() for assignment in job.open_assignments()
    }
    assert open_by_job == engine.book.assignments
    queued = [assignment for queue in engine.book.queues.values() for assignment in queue.values()]
    assert {assignment.id: assignment for assignment in queued} == engine.book.assignments
    assert all(engine.book.queues.values()), "an empty queue makes its client look busy"
    for job in engine.book.jobs.values():
        assert job.rounds_done <= job.spec.rounds.max
        assert (job.rounds_done == job.spec.rounds.max) == (job.state is JobState.FINISHED)
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
        for part in job.round.parts:
            assert part.outcome is Outcome.ACCEPTED or part.reason
        if job.round.phase.open:
            assert engine.wake_at() is not None, "nothing would end an assignment whose client is gone"
