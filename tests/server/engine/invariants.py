"""What must be true of an engine after every step."""

import math
from collections import Counter

from fedelta_server.engine import Client, Engine, Job, records
from fedelta_server.engine._evaluations import MOST_WAITING
from fedelta_server.engine._phases import Phase
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from tests.server.engine.buffer_invariants import check_buffer, check_enough_at_work


def check(engine: Engine, now: float) -> None:
    """Raises `AssertionError` where an invariant is broken."""
    open_by_job = {
        assignment.id: assignment for job in engine.book.jobs.values() for assignment in job.open_assignments()
    }
    assert open_by_job == engine.book.assignments
    queued = [assignment for queue in engine.book.queues.values() for assignment in queue.values()]
    assert {assignment.id: assignment for assignment in queued} == engine.book.assignments
    assert all(engine.book.queues.values()), "an empty queue makes its client look busy"
    trains = Counter(each.client for each in queued if each.phase is not PhaseKind.EVALUATE)
    assert trains == dict(engine.book.training)
    check_turns(engine)
    for job in engine.book.jobs.values():
        assert job.rounds_done <= job.rounds_max
        check_finished(job)
        check_evaluations(engine, job)
        check_pruned(job)
        check_declines(engine, job, now)
        check_not_kept_waiting(engine, job, now)
        if job.buffer is not None:
            check_buffer(engine, job, job.buffer, held_back=any(map(folds, engine.book.jobs.values())))
        if job.state.ended:
            assert job.round is None
            assert all(each.requested for each in job.evaluations.values())
        if job.model is not None and job.round is None:
            assert job.model.version == job.rounds_done
        if job.round is None:
            continue
        assert job.round.folding <= (not job.round.phase.open and job.round.phase.kind is PhaseKind.TRAIN)
        check_parts(engine, job.round.phase, job.round.parts)
        check_enough(job.round.phase, job.round.parts)
        check_dropouts_replaced(engine, job, now)


def trainable(client: Client, job: Job, now: float) -> bool:
    """Whether a client can be expected to train for a job."""
    return client.fits(job, now) and not client.evaluates_only


def check_parts(engine: Engine, phase: Phase, parts: list[records.Participation]) -> None:
    """Each client of a phase has one part in it, which is open or ended once, and will end."""
    ended = [part.client for part in parts]
    assert len(ended) == len(set(ended)), "a client's part of a phase ended twice"
    assert set(ended) | set(phase.open) == set(phase.clients)
    assert set(ended).isdisjoint(phase.open)
    for part in parts:
        assert part.phase is phase.kind
        assert part.outcome is Outcome.ACCEPTED or part.reason
    if phase.open:
        assert engine.wake_at() is not None, "nothing would end an assignment whose client is gone"
        limited = phase.deadline < math.inf
        assert limited or not all(each.begun for each in phase.assignments), "the phase may last for ever"


def check_turns(engine: Engine) -> None:
    """A client has one turn at a time: what waits has no clock that runs, and training is not kept from it for long."""
    for name in engine.book.queues:
        first, *others = engine.book.in_turn(name)
        assert first.begun
        assert all(each.taken or not each.begun for each in others)
        waiting = [each for each in (first, *others) if not each.taken]
        due = [each for each in waiting if each.due]
        assert len(due) <= 1, "between two trainings there is one evaluation"
        kinds = [each.phase is PhaseKind.EVALUATE for each in waiting[len(due) :]]
        assert kinds == sorted(kinds), "an evaluation goes before training"


def check_finished(job: Job) -> None:
    """A job is finished when it has nothing more to do, and not before."""
    if job.state is JobState.FINISHED:
        assert job.rounds_done == job.rounds_max or job.reason, "neither its rounds are closed nor did a rule end it"
    if job.complete and not job.state.ended:
        assert job.evaluations, "nothing would finish it"


def check_evaluations(engine: Engine, job: Job) -> None:
    """Open evaluations are of versions that are there, and no client falls behind for good."""
    waiting: Counter[str] = Counter()
    for version, evaluation in job.evaluations.items():
        assert version in job.versions.keys() - job.pruned
        assert evaluation.phase.open, "nothing would close it"
        assert evaluation.attempt == job.evaluated[version]
        assert evaluation.central <= set(evaluation.phase.clients)
        check_parts(engine, evaluation.phase, evaluation.parts)
        if not evaluation.requested:
            waiting.update(each.client for each in evaluation.phase.assignments if not each.taken)
    assert all(count <= max(MOST_WAITING, job.spec.evaluate.lag + 1) for count in waiting.values())


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
        assert not trainable(client, job, now) or client.name in phase.clients or client.name in engine.book.training


def check_not_kept_waiting(engine: Engine, job: Job, now: float) -> None:
    """A job that waits lacks idle clients, unless they are held for one that folds."""
    fit = [each.name for each in engine.clients if trainable(each, job, now)]
    idle = [name for name in fit if name not in engine.book.training]
    if not job.waits or any(map(folds, engine.book.jobs.values())) or len(idle) < job.ready_needed:
        return
    assert job.buffered is not None
    check_enough_at_work(job.buffered, job, fit, idle)


def folds(job: Job) -> bool:
    """Whether a version of a job is being made."""
    return any(each is not None and each.folding for each in (job.round, job.buffer))


def check_decided_in_time(engine: Engine, decided: list[records.Record]) -> None:
    """No round is opened before the metrics are there that its job decides by."""
    for each in decided:
        if not isinstance(each, records.PhaseOpened) or each.phase is not PhaseKind.TRAIN:
            continue
        job = engine.book.jobs[each.job]
        needed = range(each.round - job.spec.evaluate.lag)
        unknown = (version for version in job.evaluations if version in needed and version not in job.past.evaluations)
        assert not (job.plan.reads_metrics and any(unknown)), "a decision depends on who is fast"


def check_nobody_overtaken(engine: Engine, decided: list[records.Record], now: float) -> None:
    """No job opened a round before a rival that has had less and lacks nothing but idle clients."""
    jobs = engine.book.jobs
    opened = {
        each.job for each in decided if isinstance(each, records.PhaseOpened) and each.phase != PhaseKind.EVALUATE
    }
    if any(map(folds, jobs.values())):
        return
    for waiting in jobs.values():
        fit = {client.name for client in engine.clients if trainable(client, waiting, now)}
        if not waiting.waits or waiting.standing is None or len(fit) < waiting.ready_needed:
            continue
        if waiting.at_work:  # it needs one idle client, and would have had it
            continue
        for job in (jobs[each] for each in opened):
            rival = any(trainable(client, job, now) for client in engine.clients if client.name in fit)
            assert not rival or job.level <= waiting.standing
