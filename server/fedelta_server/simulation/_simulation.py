"""The simulation itself: the engine, a clock that jumps from event to event, and clients without sockets."""

import heapq
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from fedelta._names import CENTRAL_NAME
from fedelta.errors import BadRequestError, PayloadError
from fedelta_server.engine import Assignment, Job, Made, StateRef, events
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.simulation._delays import Delays, Occasion, seed_of
from fedelta_server.simulation._desk import Desk
from fedelta_server.simulation._job import SimulatedJob
from fedelta_server.simulation._pool import Pool
from fedelta_server.simulation._sites import Sites
from fedelta_server.simulation._states import States
from fedelta_server.simulation._traffic import Traffic
from fedelta_server.simulation._work import Failed, Finished, Work

_log = logging.getLogger(__name__)


class _Which(TypedDict):
    session: str
    assignment: str


class _Given(TypedDict):
    at: float
    examples: int
    metrics: Mapping[str, float]
    seconds: float


def _which(work: Work) -> _Which:
    # A client's session is called as the client is.
    return {"session": work.client, "assignment": work.id}


@dataclass(order=True)
class _Running:
    """An assignment that a client works on until a point in time; of equals the one that was begun first is first."""

    until: float
    number: int
    seconds: float = field(compare=False)
    """How long it takes in all."""
    assignment: Assignment = field(compare=False)
    work: Work = field(compare=False)


class Simulation:
    """One job with its clients, from its beginning to its end."""

    def __init__(self, sites: Sites, desk: Desk, states: States, delays: Delays) -> None:
        self.now = 0.0
        """Seconds on the simulation's clock."""
        self._desk = desk
        self._engine = desk.engine
        self._files = desk.files
        self._traffic = Traffic()
        self._index = sites.indices
        self._states = states
        self._delays = delays
        self._running: dict[str, _Running] = {}
        """What clients work on, by client."""
        self._due: list[_Running] = []
        """The same as a heap, and with it what was dropped."""
        self._begun = 0
        self._traced = False

    @property
    def job(self) -> Job:
        """The job, once it is submitted."""
        return self._desk.job

    def submit(self, job: SimulatedJob, learner: str, labels: Mapping[str, Mapping[str, str]]) -> None:
        """Has all clients register, offering the learner and with their labels, and then submits the job."""
        for name in self._index:
            registered = events.ClientRegistered(
                at=self.now,
                name=name,
                session=name,
                learners=(learner,),
                labels=labels.get(name, {}),
                evaluates_only=name == CENTRAL_NAME,
            )
            self._desk.tell(registered)
            # It waits for work for as long as the simulation lasts.
            self._desk.tell(events.PollStarted(at=self.now, session=name))
        initial = job.initial(self._files)
        self._desk.tell(
            events.JobSubmitted(at=self.now, spec=job.spec, toml=job.text, unix_time=0.0, initial=initial),
        )

    def waiting_for(self) -> str:
        """What the job waits for, in words; empty where it waits for nothing."""
        return self._engine.waiting_for(self.job, self.now, by_name=True)

    def run(self, pool: Pool) -> None:
        """Goes on until the job has ended, or nothing can happen any more.

        Raises `FedeltaError` where the simulation itself cannot go on.
        """
        self._wake_clients(pool)
        while (self.job.runnable or self._running) and self._advance(pool):
            self._wake_clients(pool)

    def _advance(self, pool: Pool) -> bool:
        """Lets the next thing happen. False: there is none."""
        while self._due and self._running.get(self._due[0].work.client) is not self._due[0]:
            heapq.heappop(self._due)
        wake_at = self._engine.wake_at()
        if self._due and (wake_at is None or self._due[0].until <= wake_at):
            running = heapq.heappop(self._due)
            self.now = running.until
            self._finish(running, pool)
        elif wake_at is not None:
            self.now = max(self.now, wake_at)
            self._renew_leases()
            self._desk.tell(events.TimePassed(at=self.now))
        else:
            return False
        self._drop_unwanted(pool)
        return True

    # Clients.

    def _wake_clients(self, pool: Pool) -> None:
        while self._desk.woken:
            client = next(iter(self._desk.woken))
            del self._desk.woken[client]
            assignment = None if client in self._running else self._engine.pending(client)
            if assignment is not None:
                self._begin(assignment, pool)

    def _begin(self, assignment: Assignment, pool: Pool) -> None:
        which: _Which = {"session": assignment.client, "assignment": assignment.id}
        self._desk.tell(events.AssignmentTaken(at=self.now, **which))
        made, shared = self._given(assignment)
        down = self._traffic.fetched(assignment.client, made.model if made else None, shared)
        self._desk.tell(events.BytesMoved(at=self.now, down=down, **which))
        work = self._work(assignment, made, shared)
        self._begun += 1
        seconds = self._delay(assignment, work)
        running = _Running(self.now + seconds, self._begun, seconds, assignment, work)
        self._running[assignment.client] = running
        heapq.heappush(self._due, running)
        pool.begin(work)

    def _given(self, assignment: Assignment) -> tuple[Made | None, StateRef | None]:
        """The version that a client gets, and what the plan shares beside it."""
        made = None if assignment.version is None else self.job.versions[assignment.version]
        shares = assignment.phase is PhaseKind.TRAIN and self.job.plan.local.shared
        return made, made.state if made is not None and shares else None

    def _work(self, assignment: Assignment, made: Made | None, shared: StateRef | None) -> Work:
        return Work(
            id=assignment.id,
            phase=assignment.phase,
            client=assignment.client,
            index=self._index[assignment.client],
            round=assignment.round,
            seed=self.job.seed_of(assignment),
            model=None if made is None else self._files.model_path(made.model.digest),
            shared=None if made is None or shared is None else self._files.state_path(self.job.id, made.model.version),
            out=self._files.temp(".update"),
            state=self._states.promoted(assignment.client, self._engine.book.fate),
            state_out=self._states.draft(),
        )

    def _delay(self, assignment: Assignment, work: Work) -> float:
        occasion = Occasion(
            client=work.client,
            index=work.index,
            round=work.round,
            phase=work.phase,
            seed=seed_of(self.job.spec.job.seed, assignment.id),
        )
        return self._delays(occasion)

    def _finish(self, running: _Running, pool: Pool) -> None:
        work = running.work
        answer = pool.result(work)
        del self._running[work.client]
        self._desk.woken[work.client] = None
        if isinstance(answer, Failed):
            self._fail(work, answer)
            return
        if work.phase is not PhaseKind.EVALUATE:
            self._keep(running, answer)
        self._report(running, answer)

    def _fail(self, work: Work, answer: Failed) -> None:
        if answer.traceback and not self._traced:
            # Once: what fails at one client is likely to fail at others in the same way.
            self._traced = True
            _log.warning("%s failed in round %d:\n%s", work.client, work.round, answer.traceback)
        self._desk.tell(
            events.AssignmentFailed(at=self.now, outcome=answer.outcome, reason=answer.reason, **_which(work))
        )

    def _report(self, running: _Running, answer: Finished) -> None:
        """Tells of a result. One that the coordinator refuses does not count."""
        try:
            self._desk.tell(self._result(running, answer))
        except (BadRequestError, PayloadError) as error:
            self._fail(running.work, Failed(outcome=Outcome.REJECTED, reason=str(error)))

    def _result(self, running: _Running, answer: Finished) -> events.ResultEvent:
        work = running.work
        given = _Given(at=self.now, examples=answer.examples, metrics=answer.metrics, seconds=running.seconds)
        if work.phase is PhaseKind.EVALUATE:
            return events.EvaluationReported(**given, **_which(work))
        return events.UpdateAccepted(
            digest=answer.digest, length=answer.length, facts=answer.facts, **given, **_which(work)
        )

    def _keep(self, running: _Running, answer: Finished) -> None:
        """Puts the file that training made to where the coordinator has its files."""
        work, assignment = running.work, running.assignment
        self._desk.tell(events.BytesMoved(at=self.now, up=answer.length, **_which(work)))
        if work.phase is PhaseKind.INITIALIZE:
            self._files.keep_model(work.out, answer.digest)
        else:
            which = (assignment.job, assignment.round, assignment.attempt, assignment.client)
            self._files.keep_update(work.out, *which)
        if answer.state_saved:
            self._states.pend(work.client, work.id, work.state_out)

    def _renew_leases(self) -> None:
        """Those that work are heard of in time."""
        for running in self._running.values():
            if running.assignment.lease_until <= self.now:
                self._desk.tell(events.AssignmentRenewed(at=self.now, **_which(running.work)))

    def _drop_unwanted(self, pool: Pool) -> None:
        """Clients stop what nobody wants from them any more."""
        for client in self._desk.ended:
            running = self._running.get(client)
            if running is not None and running.work.id not in self._engine.book.assignments:
                pool.drop(running.work)
                del self._running[client]
                self._desk.woken[client] = None
        self._desk.ended.clear()
