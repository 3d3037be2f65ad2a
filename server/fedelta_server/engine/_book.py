"""The durable part of the engine's state, changed by applying records and in no other way."""

from collections import Counter, OrderedDict, defaultdict
from functools import singledispatchmethod

import msgspec

from fedelta.config import parse_job
from fedelta.errors import NotFoundError
from fedelta_server.engine import records
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._phases import Assignment, Evaluation, Phase, Round, evaluation_timer
from fedelta_server.engine._refs import Made, ModelRef, StateRef, UpdateRef
from fedelta_server.engine._state import Job
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


class Book:
    """Jobs with their open rounds and assignments, and how recent assignments ended."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.assignments: dict[str, Assignment] = {}
        """The open assignments by id."""
        self.queues: defaultdict[str, dict[str, Assignment]] = defaultdict(dict)
        """The open assignments of each client by id, oldest first."""
        self.training: Counter[str] = Counter()
        """How many open assignments other than evaluations a client has, by name. Who evaluates is free to train."""
        self.endings: OrderedDict[str, records.ParticipationEnded] = OrderedDict()
        """How the latest assignments ended, by id."""

    def job(self, job_id: str) -> Job:
        """A job. Raises `NotFoundError`."""
        if job_id not in self.jobs:
            raise NotFoundError(f"there is no job {job_id!r}; `fedelta job list` shows those there are")
        return self.jobs[job_id]

    def open_round(self, job_id: str) -> Round:
        """The open round of a job. Raises `ValueError` where it has none."""
        round_ = self.jobs[job_id].round
        if round_ is None:
            raise ValueError(f"job {job_id} has no open round")
        return round_

    def in_turn(self, client: str) -> list[Assignment]:
        """The open assignments of a client in the order in which it is to do them."""
        return sorted(self.queues.get(client, {}).values(), key=lambda each: each.precedence)

    def phase_of(self, assignment: Assignment) -> Phase:
        """The phase of an open assignment."""
        if assignment.phase is PhaseKind.EVALUATE:
            return self.jobs[assignment.job].evaluations[assignment.round].phase
        buffered = self.jobs[assignment.job].buffered
        return self.open_round(assignment.job).phase if buffered is None else buffered.open[assignment.client]

    def fate(self, client: str, assignment_id: str) -> bool | None:
        """Whether the update that a client made for an assignment was folded. None: that is not decided yet.

        Of each job the client's latest folded update is known: it asks before it makes the next one. In asynchronous
        rounds several may wait for a version, and those are known whose endings are.
        """
        if any(job.folded.get(client) == assignment_id for job in self.jobs.values()):
            return True
        if any(assignment_id in job.undecided(client) for job in self.jobs.values()):
            return None
        ended = self.endings.get(assignment_id)
        return (
            ended is not None
            and ended.participation.client == client
            and 0 < ended.number <= self.jobs[ended.job].updates_folded
        )

    @singledispatchmethod
    def apply(self, record: records.Record) -> None:
        """Changes the state as the record says."""
        raise TypeError(f"no rule for {type(record).__name__}")

    @apply.register
    def _(self, record: records.JobSubmitted) -> None:
        initial = ModelRef(0, record.digest, record.length) if record.digest else None
        spec = parse_job(record.toml, record.job)
        self.jobs[record.job] = Job(
            id=record.job,
            spec=spec,
            rounds_max=spec.rounds.max,
            toml=record.toml,
            submitted_unix=record.submitted_unix,
            origin=record.origin,
            initial=initial,
            model=initial,
            versions={0: Made(initial)} if initial else {},
            buffer=Buffer(spec.rounds.buffer) if spec.rounds.buffer else None,
        )

    @apply.register
    def _(self, record: records.JobStateChanged) -> None:
        job = self.jobs[record.job]
        if record.state is JobState.RUNNING:
            job.failed_attempts = 0
        job.state, job.reason = record.state, record.reason
        if not job.runnable:
            job.standing = None
        if record.state.ended:
            job.round = None
            job.evaluations.clear()
        if job.buffer is not None and record.state is JobState.RUNNING:
            job.buffer.try_anew()
        elif job.buffer is not None and record.state.ended:
            job.buffer.clear()
            self._give_up_unfolded(job)

    def _give_up_unfolded(self, job: Job) -> None:
        """Forgets the numbers of updates that are in no version of a job that has ended: it may go on, with others."""
        for key, ended in list(self.endings.items()):
            if ended.job == job.id and ended.number > job.updates_folded:
                self.endings[key] = msgspec.structs.replace(ended, number=0)

    @apply.register
    def _(self, record: records.JobExtended) -> None:
        job = self.jobs[record.job]
        job.rounds_max = record.rounds_max
        if job.state is JobState.FINISHED:
            job.excused = job.rounds_done

    @apply.register
    def _(self, record: records.PhaseOpened) -> None:
        if record.phase is PhaseKind.EVALUATE:
            self._open_evaluation(record)
            return
        job = self.jobs[record.job]
        if job.buffered is not None:
            self._ask(job.buffered, record)
        else:
            phase = Phase(record.phase, tuple(record.clients), self._assign(record), record.wanted, timer=job.id)
            phase.population = record.population
            job.round = Round(record.round, record.attempt, phase)
            job.attempts = record.attempt
        job.level = record.turns - job.cost(len(record.clients))
        job.turns, job.standing = record.turns, None

    def _ask(self, buffer: Buffer, record: records.PhaseOpened) -> None:
        for name, each in self._assign(record).items():
            phase = Phase(record.phase, (name,), {name: each}, timer=f"training/{each.id}")
            phase.population = record.population
            buffer.begin(name, each.attempt, phase)

    def _open_evaluation(self, record: records.PhaseOpened) -> None:
        job, version = self.jobs[record.job], record.round
        timer = evaluation_timer(job.id, version)
        job.evaluations[version] = Evaluation(
            version=version,
            attempt=record.attempt,
            phase=Phase(record.phase, tuple(record.clients), self._assign(record), timer=timer),
            central=frozenset(record.central),
            requested=record.requested,
            since=job.rounds_done,
        )
        job.evaluated[version] = record.attempt
        job.turns = record.turns
        if job.standing is not None:
            job.standing += job.cost(len(record.clients))

    @apply.register
    def _(self, record: records.PhaseExtended) -> None:
        phase = self.open_round(record.job).phase
        phase.clients = tuple(sorted((*phase.clients, *record.clients)))
        phase.open |= self._assign(record)
        self.jobs[record.job].turns = record.turns

    @apply.register
    def _(self, record: records.ParticipationEnded) -> None:
        self._remember(record)
        job, part = self.jobs[record.job], record.participation
        evaluation = job.evaluations.get(record.round)
        if part.phase is not PhaseKind.EVALUATE:
            if job.round is not None:
                self._end(job.round, record)
            elif job.buffer is not None and part.client in job.buffer.open:
                self._end_buffered(job, job.buffer, record)
        elif evaluation is not None and evaluation.attempt == record.attempt:
            self._end(evaluation, record)
        # Else what it belongs to is closed: how it ended is all that is still known of it.

    def _assign(self, record: records.PhaseOpened | records.PhaseExtended) -> dict[str, Assignment]:
        found = {}
        own = record.attempts if isinstance(record, records.PhaseOpened) else []
        for name, attempt in zip(record.clients, own or [record.attempt] * len(record.clients), strict=True):
            found[name] = each = Assignment(record.job, record.round, attempt, record.phase, name)
            self.assignments[each.id] = self.queues[name][each.id] = each
            if each.phase is not PhaseKind.EVALUATE:
                self.training[name] += 1
        return found

    def _end(self, whole: Round | Evaluation, record: records.ParticipationEnded) -> None:
        part, phase = record.participation, whole.phase
        assignment = phase.open.pop(part.client)
        phase.accepted += part.outcome is Outcome.ACCEPTED
        phase.dropped += part.outcome not in (Outcome.ACCEPTED, Outcome.DECLINED)
        whole.parts.append(part)
        if record.digest and isinstance(whole, Round):
            whole.updates[assignment.client] = UpdateRef(record.digest, record.length)
        self._let_go(assignment)

    def _end_buffered(self, job: Job, buffer: Buffer, record: records.ParticipationEnded) -> None:
        (assignment,) = buffer.open[record.participation.client].assignments
        if (assignment.round, assignment.attempt) == (record.round, record.attempt):
            buffer.end(record)
            self._let_go(assignment)
            if record.participation.outcome is Outcome.ACCEPTED:
                job.failed_attempts = 0

    def _let_go(self, assignment: Assignment) -> None:
        del self.assignments[assignment.id]
        queue = self.queues[assignment.client]
        del queue[assignment.id]
        if not queue:
            del self.queues[assignment.client]
        if assignment.phase is not PhaseKind.EVALUATE:
            self.training -= Counter((assignment.client,))  # what is zero is gone

    def _remember(self, record: records.ParticipationEnded) -> None:
        part = record.participation
        ended = Assignment(record.job, record.round, record.attempt, part.phase, part.client)
        self.endings[ended.id] = record
        while len(self.endings) > records.ENDINGS_KEPT:
            self.endings.popitem(last=False)

    @apply.register
    def _(self, record: records.VersionMade) -> None:
        job = self.jobs[record.job]
        job.model = ModelRef(record.version, record.digest, record.length)
        state = StateRef(record.state, record.state_length) if record.state else None
        sources = record.sources or [(record.version, record.attempt)] * len(record.clients)
        job.versions[record.version] = Made(
            job.model, record.attempt, record.manifest, state, frozenset(record.sources)
        )
        for name, (round_, attempt) in zip(record.clients, sources, strict=True):
            job.folded[name] = Assignment(job.id, round_, attempt, PhaseKind.TRAIN, name).id
        if job.buffer is not None:
            job.buffer.made(record)
        if record.version == 0:
            job.initial, job.round, job.attempts, job.failed_attempts = job.model, None, 0, 0

    @apply.register
    def _(self, record: records.VersionsPruned) -> None:
        self.jobs[record.job].pruned.update(record.versions)

    @apply.register
    def _(self, record: records.RoundClosed) -> None:
        job = self.jobs[record.job]
        job.rounds_done, job.turns, job.level = record.number, record.turns, record.level
        job.round_seconds = record.seconds
        job.past.round_closed(record)
        job.round, job.attempts, job.failed_attempts = None, 0, 0
        if job.buffer is not None:
            job.buffer.others.clear()
        if record.metrics:
            job.evaluated[record.number] = record.attempts
        evaluation = job.evaluations.get(record.number)
        if evaluation is not None and not evaluation.phase.open:
            # Of a journal of before there was `EvaluationClosed`: the round waited for it.
            del job.evaluations[record.number]

    @apply.register
    def _(self, record: records.EvaluationClosed) -> None:
        job = self.jobs[record.job]
        job.evaluated[record.version] = record.attempt
        job.evaluations.pop(record.version, None)
        job.past.evaluated(record)

    @apply.register
    def _(self, record: records.RoundFailed) -> None:
        job = self.jobs[record.job]
        job.round = None
        job.failed_attempts += record.counted
        if job.buffered is not None:
            job.attempts = record.attempt
            job.buffered.try_anew()
