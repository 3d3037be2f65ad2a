"""Assignments at work: whose turn they are, how long they may take, and how they end."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fedelta_server.engine import effects, records
from fedelta_server.engine._book import Book
from fedelta_server.engine._clients import Clients
from fedelta_server.engine._phases import PICKUP_SECONDS, Assignment, Phase
from fedelta_server.engine._state import Job
from fedelta_server.engine._timers import Timers
from fedelta_server.engine.effects import Effect
from fedelta_server.engine.records import Record
from fedelta_server.engine.words import JobState, Outcome, PhaseKind


@dataclass
class Step:
    """What one event leads to: records to commit, then effects to run."""

    records: list[Record] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)


class Work:
    """What everything that decides about assignments does with them. It writes into the step that is being made."""

    def __init__(self, book: Book, clients: Clients, timers: Timers) -> None:
        self.step = Step()
        self.book = book
        self.clients = clients
        self.timers = timers
        self._stirred: dict[str, None] = {}
        """The clients whose queues changed in this step."""
        self._changed: dict[str, tuple[Job, Phase]] = {}
        """The phases whose assignments did, by timer."""

    def record(self, record: Record) -> None:
        """Decides something: the book is changed, and the step says so."""
        self.step.records.append(record)
        self.book.apply(record)

    def change_state(self, job: Job, state: JobState, reason: str = "") -> None:
        """Puts a job into another state."""
        self.record(records.JobStateChanged(job=job.id, state=state, reason=reason))

    def wake(self, job: Job, phase: Phase, names: Sequence[str]) -> None:
        """There are new assignments for these clients of a phase."""
        self._note(job, phase, names)
        self.step.effects.append(effects.Wake(tuple(names)))

    def take(self, assignment: Assignment, now: float) -> None:
        """Notes a sign of life of an assignment: its client works at it, and has it for another lease."""
        assignment.taken = True
        job = self.book.jobs[assignment.job]
        self._lease(assignment, now + job.spec.rounds.lease)
        self._note(job, self.book.phase_of(assignment), [assignment.client])

    def close(self, assignment: Assignment, outcome: Outcome, reason: str) -> None:
        """Ends an assignment without a result."""
        part = records.Participation(
            client=assignment.client,
            phase=assignment.phase,
            outcome=outcome,
            reason=reason,
            central=self.is_central(assignment),
        )
        self.end(assignment, part)

    def close_all(self, phase: Phase, outcome: Outcome, reason: str) -> None:
        """Ends what is open of a phase, without results."""
        for assignment in phase.assignments:
            self.close(assignment, outcome, reason)

    def end(self, assignment: Assignment, part: records.Participation, digest: bytes = b"", length: int = 0) -> None:
        """Ends an assignment as its participation says. The client's next one begins."""
        job, phase = self.book.jobs[assignment.job], self.book.phase_of(assignment)
        self.timers.drop(assignment.id)
        self.record(
            records.ParticipationEnded(
                job=assignment.job,
                round=assignment.round,
                attempt=assignment.attempt,
                participation=part,
                digest=digest,
                length=length,
                number=job.next_number if digest and job.buffered is not None else 0,
            )
        )
        if job.buffered is not None and assignment.phase is PhaseKind.TRAIN:
            self.timers.drop(phase.timer)
        self._note(job, phase, [assignment.client])
        if assignment.phase is not PhaseKind.EVALUATE:
            self._let_evaluate(assignment.client)

    def is_central(self, assignment: Assignment) -> bool:
        """Whether its client evaluates only."""
        if assignment.phase is not PhaseKind.EVALUATE:
            return False
        return assignment.client in self.book.jobs[assignment.job].evaluations[assignment.round].central

    def restart_clocks(self, now: float) -> None:
        """Gives what was open when the process ended its times anew, in full."""
        for assignment in self.book.assignments.values():
            job = self.book.jobs[assignment.job]
            self._lease(assignment, now + job.spec.rounds.lease)
            self._note(job, self.book.phase_of(assignment), [assignment.client])

    def arrange(self, now: float) -> None:
        """Lets clocks run and stop as the step that is being made wants it; to be called at its end.

        Whatever waits at a client behind another assignment waits for that one, without a limit of time.
        """
        for client in self._stirred:
            for place, assignment in enumerate(self.book.in_turn(client)):
                if place == 0 and not assignment.begun:
                    self._lease(assignment, now + PICKUP_SECONDS)
                    self._note(self.book.jobs[assignment.job], self.book.phase_of(assignment))
                elif place > 0 and not assignment.taken:
                    self._lease(assignment, math.inf)
        for job, phase in self._changed.values():
            self._start_deadline(job, phase, now)
        self._stirred.clear()
        self._changed.clear()

    def _note(self, job: Job, phase: Phase, clients: Iterable[str] = ()) -> None:
        self._changed[phase.timer] = job, phase
        self._stirred.update(dict.fromkeys(clients))

    def _let_evaluate(self, client: str) -> None:
        """An evaluation that waited while its client trained is overtaken by no other training."""
        waiting = (each for each in self.book.in_turn(client) if each.phase is PhaseKind.EVALUATE and not each.taken)
        following = next(waiting, None)
        if following is not None:
            following.due = True

    def _lease(self, assignment: Assignment, until: float) -> None:
        """Lets an assignment be its client's until then."""
        assignment.lease_until = until
        if until < math.inf:
            self.timers.set(assignment.id, until)
        else:
            self.timers.drop(assignment.id)

    def _start_deadline(self, job: Job, phase: Phase, now: float) -> None:
        """Lets the time of a phase begin, if it has not, when the last of its clients can begin.

        Before that they are held up: by training, or by other jobs.
        """
        if phase.open and phase.deadline == math.inf and all(each.begun for each in phase.open.values()):
            phase.deadline = now + job.spec.rounds.deadline
            self.timers.set(phase.timer, phase.deadline)
