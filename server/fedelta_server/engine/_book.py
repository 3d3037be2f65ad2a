"""The durable part of the engine's state, changed by applying records and in no other way."""

from collections import OrderedDict, defaultdict
from functools import singledispatchmethod

from fedelta.config import parse_job
from fedelta.errors import NotFoundError
from fedelta_server.engine import records
from fedelta_server.engine._state import Assignment, Job, Made, ModelRef, Phase, Round, UpdateRef
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


class Book:
    """Jobs with their open rounds and assignments, and how recent assignments ended."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.assignments: dict[str, Assignment] = {}
        """The open assignments by id."""
        self.queues: defaultdict[str, dict[str, Assignment]] = defaultdict(dict)
        """The open assignments of each client by id, oldest first."""
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

    def fate(self, client: str, assignment_id: str) -> bool | None:
        """Whether the update that a client made for an assignment was folded. None: that is not decided yet.

        Of each job only the client's latest folded update is known: it asks before it makes the next one.
        """
        if any(job.folded.get(client) == assignment_id for job in self.jobs.values()):
            return True
        # A round that has its version evaluates or is closed: one that trains is undecided.
        undecided = any(job.training_id(client) == assignment_id for job in self.jobs.values())
        return None if undecided else False

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

    @apply.register
    def _(self, record: records.JobExtended) -> None:
        self.jobs[record.job].rounds_max = record.rounds_max

    @apply.register
    def _(self, record: records.PhaseOpened) -> None:
        job = self.jobs[record.job]
        phase = Phase(record.phase, tuple(record.clients), self._assign(record), record.wanted)
        if job.round is None:
            job.round = Round(record.round, record.attempt, phase)
            job.level = record.turns - job.cost(len(record.clients))
        else:
            job.round.phase = phase
        job.attempts = record.attempt
        job.turns, job.standing = record.turns, None

    @apply.register
    def _(self, record: records.PhaseExtended) -> None:
        phase = self.open_round(record.job).phase
        phase.clients = tuple(sorted((*phase.clients, *record.clients)))
        phase.open |= self._assign(record)
        self.jobs[record.job].turns = record.turns

    @apply.register
    def _(self, record: records.ParticipationEnded) -> None:
        self._remember(record)
        if self.jobs[record.job].round is not None:
            self._end(record)
        # Else its round is closed: how it ended is all that is still known of it.

    def _assign(self, record: records.PhaseOpened | records.PhaseExtended) -> dict[str, Assignment]:
        found = {}
        for name in record.clients:
            found[name] = each = Assignment(record.job, record.round, record.attempt, record.phase, name)
            self.assignments[each.id] = self.queues[name][each.id] = each
        return found

    def _end(self, record: records.ParticipationEnded) -> None:
        round_, outcome = self.open_round(record.job), record.participation.outcome
        assignment = round_.phase.open.pop(record.participation.client)
        round_.phase.accepted += outcome is Outcome.ACCEPTED
        round_.phase.dropped += outcome not in (Outcome.ACCEPTED, Outcome.DECLINED)
        round_.parts.append(record.participation)
        if record.digest:
            round_.updates[assignment.client] = UpdateRef(record.digest, record.length)
        del self.assignments[assignment.id]
        queue = self.queues[assignment.client]
        del queue[assignment.id]
        if not queue:
            del self.queues[assignment.client]

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
        job.versions[record.version] = Made(job.model, record.attempt, record.manifest)
        for name in record.clients:
            job.folded[name] = Assignment(job.id, record.version, record.attempt, PhaseKind.TRAIN, name).id
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
        job.round, job.attempts, job.failed_attempts = None, 0, 0

    @apply.register
    def _(self, record: records.RoundFailed) -> None:
        job = self.jobs[record.job]
        job.round = None
        job.failed_attempts += record.counted
