"""The decisions: which records an event leads to."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import singledispatchmethod

from fedelta.config import JobSpec
from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    ForeignAssignmentError,
    WrongStateError,
)
from fedelta_server.engine import effects, events, records
from fedelta_server.engine._book import Book
from fedelta_server.engine._clients import Clients
from fedelta_server.engine._extension import check_extension
from fedelta_server.engine._selection import draw_cohort, draw_evaluators, fitting
from fedelta_server.engine._state import (
    MAX_METRIC,
    PICKUP_SECONDS,
    Assignment,
    Client,
    Job,
    Round,
    weighted_mean,
)
from fedelta_server.engine._timers import Timers
from fedelta_server.engine.effects import Effect
from fedelta_server.engine.records import Record
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


@dataclass
class Step:
    """What one event leads to: records to commit, then effects to run."""

    records: list[Record] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


class Engine:
    """Decides everything about rounds.

    One event at a time; a step's records must be committed before its effects are run. Where that fails, the
    engine must be thrown away and built anew from the committed records.
    """

    def __init__(self, committed: Iterable[records.Record] = ()) -> None:
        self.book = Book()
        self.clients = Clients()
        self._timers = Timers()
        self._step = Step()
        for record in committed:
            self.book.apply(record)

    def handle(self, event: events.Event) -> Step:
        """Takes an event. Raises a `FedeltaError`, and changes nothing durable, where the event is refused."""
        self._step = step = Step()
        self._handle(event)
        return step

    def resume(self, now: float) -> Step:
        """Goes on after the engine was built from records: clocks start in full, complete phases move on."""
        self._step = step = Step()
        for job in self.book.jobs.values():
            if job.round is not None:
                self._start_clocks(job, job.round, now)
                self._advance(job, now)
        return step

    def wake_at(self) -> float | None:
        """When a `TimePassed` is wanted, at the latest."""
        return self._timers.next()

    # What callers may ask between events.

    def pending(self, session: str, running: Sequence[str] = ()) -> Assignment | None:
        """The assignment a client should work on next. Raises `UnknownSessionError`."""
        queue = self.book.queues.get(self.clients.of_session(session).name, {})
        return next((each for each in queue.values() if each.id not in running), None)

    def find(self, session: str, assignment_id: str) -> Assignment:
        """An open assignment of the session's client.

        Raises `UnknownSessionError`, `AssignmentEndedError` (with the reason), `ForeignAssignmentError`.
        """
        client = self.clients.of_session(session)
        assignment = self.book.assignments.get(assignment_id)
        if assignment is None:
            raise AssignmentEndedError(f"assignment {assignment_id!r} is no longer open: {self._ending(assignment_id)}")
        if assignment.client != client.name:
            raise ForeignAssignmentError(f"assignment {assignment_id!r} does not belong to client {client.name!r}")
        return assignment

    def was_accepted(self, session: str, assignment_id: str, digest: bytes) -> bool:
        """Whether this very update of the session's client was accepted before."""
        client = self.clients.of_session(session)
        ending = self.book.endings.get(assignment_id)
        return ending is not None and ending.participation.client == client.name and ending.digest == digest != b""

    def waiting_for(self, job: Job, now: float) -> str:
        """What a job waits for, in words; empty where it waits for nothing."""
        if not job.runnable or job.round is not None:
            return ""
        needed = 1 if job.model is None else job.spec.rounds.ready_needed
        ready = len(self._ready(job.spec, now))
        learner = f" that offer learner {job.spec.job.learner!r}" if job.spec.job.learner else ""
        return f"{needed} clients{learner}; {ready} ready" if ready < needed else ""

    def _ending(self, assignment_id: str) -> str:
        ending = self.book.endings.get(assignment_id)
        if ending is None:
            return "unknown to the coordinator"
        part = ending.participation
        return f"{part.outcome} ({part.reason})" if part.reason else str(part.outcome)

    # Events.

    @singledispatchmethod
    def _handle(self, event: events.Event) -> None:
        raise TypeError(f"no rule for {type(event).__name__}")

    @_handle.register
    def _(self, event: events.TimePassed) -> None:
        for key in self._timers.expired(event.at):
            if key in self.book.assignments:
                self._lose(self.book.assignments[key], event.at)
            elif key in self.book.jobs:
                self._reach_deadline(self.book.jobs[key], event.at)
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.ClientRegistered) -> None:
        self.clients.register(event)
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.PollStarted) -> None:
        was_live = self.clients.of_session(event.session).live(event.at)
        self.clients.heard(event).polls += 1
        if not was_live:
            self._schedule(event.at)

    @_handle.register
    def _(self, event: events.PollEnded) -> None:
        client = self.clients.heard(event)
        client.polls -= 1
        client.disconnected = event.disconnected and client.polls == 0

    @_handle.register
    def _(self, event: events.ClientLeft) -> None:
        client = self.clients.heard(event)
        client.left = True
        for assignment in list(self.book.queues.get(client.name, {}).values()):
            self._end(assignment, Outcome.RETURNED, "the client left", event.at)
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.AssignmentTaken) -> None:
        self._touch(event).taken = True

    @_handle.register
    def _(self, event: events.AssignmentRenewed) -> None:
        self._touch(event).progress = event.progress

    @_handle.register
    def _(self, event: events.BytesMoved) -> None:
        assignment = self._touch(event)
        round_ = self.book.jobs[assignment.job].round
        if round_ is not None:
            round_.bytes_up += event.up
            round_.bytes_down += event.down

    @_handle.register
    def _(self, event: events.UpdateAccepted) -> None:
        if self.was_accepted(event.session, event.assignment, event.digest):
            return
        assignment = self._touch(event, PhaseKind.TRAIN, PhaseKind.INITIALIZE)
        self._accept(assignment, event, event.digest, event.length)

    @_handle.register
    def _(self, event: events.EvaluationReported) -> None:
        if event.examples < 1:
            raise BadRequestError("an evaluation needs at least 1 example")
        self._accept(self._touch(event, PhaseKind.EVALUATE), event)

    @_handle.register
    def _(self, event: events.AssignmentFailed) -> None:
        self._end(self._touch(event), event.outcome, event.reason, event.at)
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.JobSubmitted) -> None:
        initial = event.initial
        self._record(
            records.JobSubmitted(
                job=self._new_id(event.spec.job.name),
                toml=event.toml,
                submitted_unix=event.unix_time,
                digest=initial.digest if initial else b"",
                length=initial.length if initial else 0,
            )
        )
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.StopRequested) -> None:
        job = self._unended(event.job)
        round_ = job.round
        for assignment in list(job.open_assignments()):
            self._close_part(assignment, Outcome.CANCELLED, "the job was stopped", event.at)
        self._change_state(job, JobState.STOPPED, event.reason)
        if round_ is not None:
            self._timers.drop(job.id)
            self._step.effects.append(effects.DropUpdates(job.id, round_.number, round_.attempt))
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.PauseRequested) -> None:
        job = self._unended(event.job)
        if job.state is not JobState.PAUSED:
            self._change_state(job, JobState.PAUSED, event.reason)

    @_handle.register
    def _(self, event: events.ResumeRequested) -> None:
        job = self._unended(event.job)
        if job.state is not JobState.PAUSED:
            raise WrongStateError(f"job {job.id!r} is {job.state}, not paused")
        self._change_state(job, JobState.RUNNING)
        self._advance(job, event.at)
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.ExtendRequested) -> None:
        job = self.book.job(event.job)
        check_extension(job, event.rounds_max)
        self._record(records.JobExtended(job=job.id, rounds_max=event.rounds_max))
        if job.state is JobState.FINISHED:
            self._change_state(job, JobState.RUNNING)
        self._schedule(event.at)

    @_handle.register
    def _(self, event: events.Folded) -> None:
        job, round_ = self._folding(event)
        if job is None or round_ is None:
            return
        round_.folding = False
        self._record(
            records.VersionMade(
                job=job.id,
                version=round_.number,
                digest=event.digest,
                length=event.length,
                attempt=round_.attempt,
                clients=[part.client for part in round_.accepted(PhaseKind.TRAIN)],
            )
        )
        self._step.effects.append(effects.DropUpdates(job.id, round_.number, round_.attempt))
        evaluators = draw_evaluators(job, round_.number, fitting(self.clients, job.spec, event.at))
        if evaluators:
            self._open_phase(job, round_.number, round_.attempt, PhaseKind.EVALUATE, evaluators, event.at)
        else:
            self._close_round(job, round_, event.at)

    @_handle.register
    def _(self, event: events.FoldFailed) -> None:
        job, round_ = self._folding(event)
        if job is not None and round_ is not None:
            # The updates stay: they were acknowledged. Resuming the job folds them again.
            round_.folding = False
            reason = f"round {round_.number} could not be aggregated: {event.reason}"
            self._change_state(job, JobState.PAUSED, reason)

    # Decisions.

    def _record(self, record: records.Record) -> None:
        self._step.records.append(record)
        self.book.apply(record)

    def _touch(self, event: events.AssignmentEvent, *phases: PhaseKind) -> Assignment:
        """The event's assignment, its lease extended. Raises where it is not open, foreign, or of another phase."""
        self.clients.heard(event)
        assignment = self.find(event.session, event.assignment)
        if phases and assignment.phase not in phases:
            raise BadRequestError(
                f"assignment {assignment.id!r} is to {assignment.phase}; that result does not belong to it"
            )
        self._lease(assignment, event.at + self.book.jobs[assignment.job].spec.rounds.lease)
        return assignment

    def _lease(self, assignment: Assignment, until: float) -> None:
        assignment.lease_until = until
        if until < math.inf:
            self._timers.set(assignment.id, until)

    def _accept(self, assignment: Assignment, event: events.ResultEvent, digest: bytes = b"", length: int = 0) -> None:
        bad = next((name for name, value in event.metrics.items() if not abs(value) <= MAX_METRIC), None)
        if bad is not None:
            raise BadRequestError(
                f"metric {bad!r} of client {assignment.client!r} is {event.metrics[bad]}, not a finite number in reason"
            )
        if not 0 <= event.seconds < math.inf:
            raise BadRequestError(f"client {assignment.client!r} says that its work took {event.seconds} s")
        part = records.Participation(
            client=assignment.client,
            phase=assignment.phase,
            outcome=Outcome.ACCEPTED,
            examples=event.examples,
            metrics=dict(event.metrics),
            seconds=event.seconds,
        )
        self._note_part(assignment, part, event.at, digest, length)
        self._advance(self.book.jobs[assignment.job], event.at)
        self._schedule(event.at)

    def _end(self, assignment: Assignment, outcome: Outcome, reason: str, now: float) -> None:
        self._close_part(assignment, outcome, reason, now)
        self._advance(self.book.jobs[assignment.job], now)

    def _close_part(self, assignment: Assignment, outcome: Outcome, reason: str, now: float) -> None:
        part = records.Participation(client=assignment.client, phase=assignment.phase, outcome=outcome, reason=reason)
        self._note_part(assignment, part, now)

    def _note_part(
        self,
        assignment: Assignment,
        part: records.Participation,
        now: float,
        digest: bytes = b"",
        length: int = 0,
    ) -> None:
        self._timers.drop(assignment.id)
        self._record(
            records.ParticipationEnded(
                job=assignment.job,
                round=assignment.round,
                attempt=assignment.attempt,
                participation=part,
                digest=digest,
                length=length,
            )
        )
        following = next(iter(self.book.queues.get(assignment.client, {}).values()), None)
        if following is not None and following.lease_until == math.inf:
            self._lease(following, now + PICKUP_SECONDS)

    def _lose(self, assignment: Assignment, now: float) -> None:
        reason = "the client fell silent" if assignment.taken else "the client did not fetch it"
        self.clients.lose(assignment.client)
        self._end(assignment, Outcome.LOST, reason, now)

    def _reach_deadline(self, job: Job, now: float) -> None:
        for assignment in list(job.open_assignments()):
            self._close_part(assignment, Outcome.LATE, "the deadline passed", now)
        self._advance(job, now)

    def _advance(self, job: Job, now: float) -> None:
        """Moves a job's round on, if its phase is complete."""
        round_ = job.round
        if round_ is None or round_.phase.open or round_.folding:
            return
        if round_.phase.kind is PhaseKind.EVALUATE:
            self._close_round(job, round_, now)
        elif round_.phase.kind is PhaseKind.INITIALIZE:
            self._adopt_initial(job, round_)
        else:
            self._fold_or_fail(job, round_)

    def _adopt_initial(self, job: Job, round_: Round) -> None:
        if not round_.accepted(PhaseKind.INITIALIZE):
            self._fail_round(job, round_, "no client could make the initial model")
            return
        self._timers.drop(job.id)
        made = self.book.endings[Assignment(job.id, 0, round_.attempt, round_.phase.kind, round_.phase.clients[0]).id]
        self._record(records.VersionMade(job=job.id, version=0, digest=made.digest, length=made.length))

    def _fold_or_fail(self, job: Job, round_: Round) -> None:
        updates = round_.accepted(PhaseKind.TRAIN)
        needed = job.spec.rounds.min_updates
        if len(updates) < needed or job.model is None:
            self._fail_round(job, round_, f"{len(updates)} updates came in, at least {needed} are needed")
            return
        self._timers.drop(job.id)
        round_.folding = True
        fold_updates = tuple(effects.FoldUpdate(part.client, part.examples) for part in updates)
        self._step.effects.append(effects.Fold(job.id, round_.number, round_.attempt, job.model, fold_updates))

    def _fail_round(self, job: Job, round_: Round, reason: str) -> None:
        why = "; ".join(f"{part.client}: {part.reason}" for part in round_.parts[-3:] if part.reason)
        reason = f"{reason} ({why})" if why else reason
        self._timers.drop(job.id)
        self._record(records.RoundFailed(job=job.id, round=round_.number, attempt=round_.attempt, reason=reason))
        self._step.effects.append(effects.DropUpdates(job.id, round_.number, round_.attempt))
        if job.failed_attempts >= job.spec.rounds.attempts and job.runnable:
            what = f"round {round_.number}" if round_.number else "the initial model"
            self._change_state(job, JobState.PAUSED, f"{what} failed {job.failed_attempts} times; last: {reason}")

    def _close_round(self, job: Job, round_: Round, now: float) -> None:
        self._timers.drop(job.id)
        if job.model is None:
            raise ValueError(f"job {job.id} closes a round without a model")
        self._record(
            records.RoundClosed(
                job=job.id,
                number=round_.number,
                attempts=round_.attempt,
                seconds=now - round_.opened_at,
                bytes_up=round_.bytes_up,
                bytes_down=round_.bytes_down,
                clients=sorted(round_.parts, key=lambda part: (part.client, part.phase)),
                metrics=weighted_mean(round_.accepted(PhaseKind.EVALUATE)),
                train_metrics=weighted_mean(round_.accepted(PhaseKind.TRAIN)),
                digest=job.model.digest,
            )
        )
        if job.rounds_done >= job.rounds_max:
            self._change_state(job, JobState.FINISHED)
        self._schedule(now)

    def _change_state(self, job: Job, state: JobState, reason: str = "") -> None:
        self._record(records.JobStateChanged(job=job.id, state=state, reason=reason))

    def _schedule(self, now: float) -> None:
        """Opens rounds wherever a job can have one; the job that opened a phase longest ago goes first."""
        waiting = (job for job in self.book.jobs.values() if job.runnable and job.round is None)
        for job in sorted(waiting, key=lambda job: job.last_opened):
            cohort = self._draw(job, now)
            if cohort:
                self._open_round(job, cohort, now)

    def _draw(self, job: Job, now: float) -> list[str]:
        return draw_cohort(job, self._next_number(job), self._ready(job.spec, now))

    def _open_round(self, job: Job, cohort: list[str], now: float) -> None:
        if job.state is JobState.QUEUED:
            self._change_state(job, JobState.RUNNING)
        number = self._next_number(job)
        kind = PhaseKind.TRAIN if number else PhaseKind.INITIALIZE
        self._open_phase(job, number, job.attempts + 1, kind, cohort, now)
        if job.round is not None:
            job.round.opened_at = now

    def _open_phase(self, job: Job, number: int, attempt: int, kind: PhaseKind, names: list[str], now: float) -> None:
        self._record(records.PhaseOpened(job=job.id, round=number, attempt=attempt, phase=kind, clients=sorted(names)))
        assignments = list(job.open_assignments())
        for assignment in assignments:
            first = next(iter(self.book.queues[assignment.client].values()))
            # Behind another assignment it waits for that one; the pick-up clock starts when its turn comes.
            self._lease(assignment, now + PICKUP_SECONDS if first is assignment else math.inf)
        self._timers.drop(job.id)
        self._set_deadline(job, now)
        self._step.effects.append(effects.Wake(tuple(assignment.client for assignment in assignments)))

    def _set_deadline(self, job: Job, now: float) -> None:
        if job.round is not None:
            job.round.phase.deadline = now + job.spec.rounds.deadline
            self._timers.set(job.id, job.round.phase.deadline)

    def _start_clocks(self, job: Job, round_: Round, now: float) -> None:
        round_.opened_at = now
        self._set_deadline(job, now)
        for assignment in job.open_assignments():
            self._lease(assignment, now + job.spec.rounds.lease)

    def _ready(self, spec: JobSpec, now: float) -> list[Client]:
        """Clients that can take up work for a job at once."""
        fit = fitting(self.clients, spec, now)
        return [client for client in fit if client.name not in self.book.queues]

    def _next_number(self, job: Job) -> int:
        return 0 if job.model is None else job.rounds_done + 1

    def _unended(self, job_id: str) -> Job:
        job = self.book.job(job_id)
        if job.state.ended:
            raise WrongStateError(f"job {job_id!r} is {job.state}; nothing can be changed any more")
        return job

    def _folding(self, event: events.Folded | events.FoldFailed) -> tuple[Job | None, Round | None]:
        """The round a fold belongs to, if it is still wanted: the job may have been stopped meanwhile."""
        job = self.book.jobs.get(event.job)
        round_ = job.round if job else None
        if round_ is None or (round_.number, round_.attempt) != (event.round, event.attempt) or not round_.folding:
            return None, None
        return job, round_

    def _new_id(self, name: str) -> str:
        number = 1 + sum(1 for job in self.book.jobs.values() if job.spec.job.name == name)
        while f"{name}-{number}" in self.book.jobs:
            number += 1
        return f"{name}-{number}"
