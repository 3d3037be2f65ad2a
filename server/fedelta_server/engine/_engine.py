"""The decisions: which records an event leads to."""

import math
from collections.abc import Iterable, Sequence
from functools import singledispatchmethod

from fedelta.errors import (
    AssignmentEndedError,
    BadRequestError,
    ConfigError,
    ForeignAssignmentError,
    WrongStateError,
)
from fedelta_server.engine import events, records
from fedelta_server.engine._book import Book
from fedelta_server.engine._buffer import Buffer
from fedelta_server.engine._client import Decline
from fedelta_server.engine._clients import Clients
from fedelta_server.engine._endings import ending
from fedelta_server.engine._evaluations import Evaluations
from fedelta_server.engine._extension import check_extension
from fedelta_server.engine._judging import unusable
from fedelta_server.engine._phases import MAX_METRIC, Assignment, Round
from fedelta_server.engine._rounds import Rounds
from fedelta_server.engine._state import Job
from fedelta_server.engine._timers import Timers
from fedelta_server.engine._waiting import describe_refusals, missing_clients, open_evaluations, refusals
from fedelta_server.engine._work import Step, Work
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from fedelta_server.plan import plan_of

MIN_DECLINE_SECONDS = 1.0
"""A client that declines a job is not asked again sooner: its refusals must not fill the journal."""


class Engine:
    """Decides everything about rounds.

    One event at a time; a step's records must be committed before its effects are run. Where that fails, the
    engine must be thrown away and built anew from the committed records.
    """

    def __init__(self, committed: Iterable[records.Record] = ()) -> None:
        self.book = Book()
        self.clients = Clients()
        self._timers = Timers()
        self._work = Work(self.book, self.clients, self._timers)
        self._evaluations = Evaluations(self._work)
        self._rounds = Rounds(self._work, self._evaluations)
        for record in committed:
            self.book.apply(record)

    def handle(self, event: events.Event) -> Step:
        """Takes an event. Raises a `FedeltaError`, and changes nothing durable, where the event is refused."""
        self._work.step = step = Step()
        returns = isinstance(event, events.SessionEvent) and not self.clients.of_session(event.session).live(event.at)
        self._handle(event)
        if returns:
            self._rounds.open_all(event.at)
        self._work.arrange(event.at)
        return step

    def resume(self, now: float) -> Step:
        """Goes on after the engine was built from records: clocks start in full, complete phases move on."""
        self._work.step = step = Step()
        self._work.restart_clocks(now)
        for job in self.book.jobs.values():
            for each in (job.round, job.buffer, *job.evaluations.values()):
                if each is not None:
                    each.opened_at = now
            self._check_plan(job)
            self._rounds.judge(job)
            self._rounds.advance(job, now)
        self._rounds.open_all(now)
        self._work.arrange(now)
        return step

    def wake_at(self) -> float | None:
        """When a `TimePassed` is wanted, at the latest."""
        return self._timers.next()

    # What callers may ask between events.

    def pending(self, session: str, running: Sequence[str] = ()) -> Assignment | None:
        """The assignment a client should work on next. Raises `UnknownSessionError`."""
        queue = self.book.in_turn(self.clients.of_session(session).name)
        return next((each for each in queue if each.id not in running), None)

    def find(self, session: str, assignment_id: str) -> Assignment:
        """An open assignment of the session's client.

        Raises `UnknownSessionError`, `AssignmentEndedError` (with the reason), `ForeignAssignmentError`.
        """
        client = self.clients.of_session(session)
        assignment = self.book.assignments.get(assignment_id)
        if assignment is None:
            raise AssignmentEndedError(
                f"assignment {assignment_id!r} is no longer open: {ending(self.book, assignment_id)}"
            )
        if assignment.client != client.name:
            raise ForeignAssignmentError(f"assignment {assignment_id!r} does not belong to client {client.name!r}")
        return assignment

    def was_accepted(self, session: str, assignment_id: str, digest: bytes) -> bool:
        """Whether this very update of the session's client was accepted before."""
        client = self.clients.of_session(session)
        ended = self.book.endings.get(assignment_id)
        return ended is not None and ended.participation.client == client.name and ended.digest == digest != b""

    def waiting_for(self, job: Job, now: float, *, by_name: bool = False) -> str:
        """What a job waits for, in words; empty where it waits for nothing.

        `by_name`: and which clients declined it, with their reasons, which are for its operator only.
        """
        missing = missing_clients(job, self.clients, self.book.training, now)
        declined = describe_refusals(refusals(job, self.clients, now)) if missing and by_name else ""
        return "; ".join(part for part in (missing, declined, open_evaluations(job)) if part)

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
                self._rounds.reach_deadline(self.book.jobs[key], event.at)
            elif not self._evaluations.reach_deadline(key, event.at):
                self._rounds.reach_training_deadline(key)
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.ClientRegistered) -> None:
        self.clients.register(event)
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.PollStarted) -> None:
        self.clients.heard(event).polls += 1

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
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.AssignmentTaken) -> None:
        self._touch(event)

    @_handle.register
    def _(self, event: events.AssignmentRenewed) -> None:
        self._touch(event).progress = event.progress

    @_handle.register
    def _(self, event: events.BytesMoved) -> None:
        assignment = self._touch(event)
        job = self.book.jobs[assignment.job]
        evaluates = assignment.phase is PhaseKind.EVALUATE
        whole = job.evaluations[assignment.round] if evaluates else job.buffered or job.round
        if whole is not None:
            whole.bytes_up += event.up
            whole.bytes_down += event.down

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
        assignment = self._touch(event)
        if event.outcome is Outcome.DECLINED:
            self._note_decline(assignment, event)
        self._end(assignment, event.outcome, event.reason, event.at)
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.JobSubmitted) -> None:
        initial = event.initial
        plan_of(event.spec)  # refused where its parts cannot work together
        self._work.record(
            records.JobSubmitted(
                job=self._new_id(event.spec.job.name),
                toml=event.toml,
                submitted_unix=event.unix_time,
                digest=initial.digest if initial else b"",
                length=initial.length if initial else 0,
                origin=event.origin,
            )
        )
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.StopRequested) -> None:
        job = self._unended(event.job)
        self._rounds.abandon(job)
        self._evaluations.cancel(job, "the job was stopped", event.at)
        self._work.change_state(job, JobState.STOPPED, event.reason)
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.PauseRequested) -> None:
        job = self._unended(event.job)
        if job.state is not JobState.PAUSED:
            self._work.change_state(job, JobState.PAUSED, event.reason)
            self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.ResumeRequested) -> None:
        job = self._unended(event.job)
        if job.state is not JobState.PAUSED:
            raise WrongStateError(f"job {job.id!r} is {job.state}, not paused")
        if reason := unusable(job):
            raise ConfigError(reason)
        self._work.change_state(job, JobState.RUNNING)
        self._rounds.judge(job)
        self._rounds.advance(job, event.at)
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.ExtendRequested) -> None:
        job = self.book.job(event.job)
        check_extension(job, event.rounds_max)
        self._work.record(records.JobExtended(job=job.id, rounds_max=event.rounds_max))
        if job.state is JobState.FINISHED:
            self._work.change_state(job, JobState.RUNNING)
        self._rounds.advance(job, event.at)
        self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.EvaluateRequested) -> None:
        self._evaluations.request(self.book.job(event.job), event.versions, event.at)

    @_handle.register
    def _(self, event: events.PruneRequested) -> None:
        self._rounds.prune(self.book.job(event.job), event.versions)

    @_handle.register
    def _(self, event: events.Folded) -> None:
        job, whole = self._folding(event)
        if job is not None and whole is not None:
            self._rounds.folded(job, whole, event)
            self._rounds.open_all(event.at)

    @_handle.register
    def _(self, event: events.FoldFailed) -> None:
        job, whole = self._folding(event)
        if job is not None and whole is not None:
            # The updates stay: they were acknowledged. Resuming the job folds them again.
            whole.folding = False
            reason = f"round {event.round} could not be aggregated: {event.reason}"
            self._work.change_state(job, JobState.PAUSED, reason)
            self._rounds.open_all(event.at)

    # Decisions.

    def _check_plan(self, job: Job) -> None:
        """Pauses a job whose plan cannot be made any more."""
        reason = unusable(job) if job.runnable else ""
        if reason:
            self._work.change_state(job, JobState.PAUSED, reason)

    def _touch(self, event: events.AssignmentEvent, *phases: PhaseKind) -> Assignment:
        """The event's assignment, its lease extended. Raises where it is not open, foreign, or of another phase."""
        self.clients.heard(event)
        assignment = self.find(event.session, event.assignment)
        if phases and assignment.phase not in phases:
            raise BadRequestError(
                f"assignment {assignment.id!r} is to {assignment.phase}; that result does not belong to it"
            )
        self._work.take(assignment, event.at)
        return assignment

    def _end(self, assignment: Assignment, outcome: Outcome, reason: str, now: float) -> None:
        """Ends an assignment without a result, and goes on without it."""
        self._work.close(assignment, outcome, reason)
        job = self.book.jobs[assignment.job]
        if assignment.phase is PhaseKind.EVALUATE:
            self._evaluations.advance(job, assignment.round, now)
        else:
            self._rounds.drop_out(job, now)

    def _lose(self, assignment: Assignment, now: float) -> None:
        """Ends an assignment whose lease ran out."""
        reason = "the client fell silent" if assignment.taken else "the client did not fetch it"
        self.clients.lose(assignment.client)
        self._end(assignment, Outcome.LOST, reason, now)

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
            facts=dict(event.facts) if isinstance(event, events.UpdateAccepted) else {},
            central=self._work.is_central(assignment),
            staleness=self.book.jobs[assignment.job].staleness(assignment),
        )
        self._work.end(assignment, part, digest, length)
        job = self.book.jobs[assignment.job]
        if assignment.phase is PhaseKind.EVALUATE:
            self._evaluations.advance(job, assignment.round, event.at)
        else:
            self._rounds.advance(job, event.at)
        self._rounds.open_all(event.at)

    def _note_decline(self, assignment: Assignment, event: events.AssignmentFailed) -> None:
        wait = math.inf if event.retry_after is None else max(event.retry_after, MIN_DECLINE_SECONDS)
        client = self.clients.of_name(assignment.client)
        client.declined[assignment.job] = Decline(event.at + wait, event.reason)
        if wait < math.inf:
            self._timers.set(f"declined/{client.name}/{assignment.job}", event.at + wait)

    def _unended(self, job_id: str) -> Job:
        job = self.book.job(job_id)
        if job.state.ended:
            remedy = "; `fedelta job extend` lets it go on" if job.state is JobState.FINISHED else ""
            raise WrongStateError(f"job {job_id!r} is {job.state}; nothing can be changed any more{remedy}")
        return job

    def _folding(self, event: events.Folded | events.FoldFailed) -> tuple[Job | None, Round | Buffer | None]:
        """What a fold belongs to, if it is still wanted: the job may have been stopped meanwhile."""
        job = self.book.jobs.get(event.job)
        return job, None if job is None else job.folding(event.round, event.attempt)

    def _new_id(self, name: str) -> str:
        number = 1 + sum(1 for job in self.book.jobs.values() if job.spec.job.name == name)
        while f"{name}-{number}" in self.book.jobs:
            number += 1
        return f"{name}-{number}"
