"""The simulation itself: the engine, a clock that jumps from event to event, and clients without sockets."""

import heapq
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypedDict

from fedelta_server.engine import Assignment, Engine, Job, effects, events, records, task_seed
from fedelta_server.engine.words import PhaseKind
from fedelta_server.folding import make_version
from fedelta_server.simulation._delays import Delays, Occasion, seed_of
from fedelta_server.simulation._history import Chronicle
from fedelta_server.simulation._job import SimulatedJob
from fedelta_server.simulation._pool import Pool
from fedelta_server.simulation._sites import Sites
from fedelta_server.simulation._states import States
from fedelta_server.simulation._work import Failed, Finished, Work
from fedelta_server.store.files import Files

_log = logging.getLogger(__name__)

Watch = Callable[[float, records.Record], None]
"""Hears of every record, with the time on the simulation's clock."""


class _Where(TypedDict):
    at: float
    job: str
    round: int
    attempt: int


@dataclass(order=True)
class _Running:
    """An assignment that a client works on until a point in time; of equals the one that was begun first is first."""

    until: float
    number: int
    assignment: Assignment = field(compare=False)
    work: Work = field(compare=False)


class Simulation:
    """One job with its clients, from its beginning to its end."""

    def __init__(self, sites: Sites, files: Files, states: States, delays: Delays, watch: Watch | None = None) -> None:
        self.now = 0.0
        """Seconds on the simulation's clock."""
        self.chronicle = Chronicle()
        self._sites = sites
        self._index = {name: index for index, name in enumerate(sites.names)}
        self._files = files
        self._states = states
        self._delays = delays
        self._watch = watch
        self._engine = Engine()
        self._inbox: list[events.Event] = []
        self._woken: dict[str, None] = {}
        """Clients that may have work, in the order in which they were told."""
        self._running: dict[str, _Running] = {}
        """What clients work on, by client."""
        self._due: list[_Running] = []
        """The same as a heap, and with it what was dropped."""
        self._ended: set[str] = set()
        """Clients of which an assignment ended since it was last seen to."""
        self._begun = 0
        self._traced = False

    @property
    def job(self) -> Job:
        """The job, once it is submitted."""
        return self._engine.book.job(self.chronicle.job)

    def submit(self, job: SimulatedJob, learner: str) -> None:
        """Has all clients register, offering the learner, and then submits the job."""
        for name in self._sites.names:
            self._tell(events.ClientRegistered(at=self.now, name=name, session=name, learners=(learner,)))
            # It waits for work for as long as the simulation lasts.
            self._tell(events.PollStarted(at=self.now, session=name))
        initial = job.initial(self._files)
        self._tell(
            events.JobSubmitted(at=self.now, spec=job.spec, toml=job.text, unix_time=0.0, initial=initial),
        )

    def waiting_for(self) -> str:
        """What the job waits for, in words; empty where it waits for nothing."""
        return self._engine.waiting_for(self.job, self.now, by_name=True)

    def run(self, pool: Pool) -> None:
        """Goes on until the job has ended or paused, or nothing can happen any more.

        Raises `FedeltaError` where the simulation itself cannot go on.
        """
        while self.job.runnable:
            self._wake_clients(pool)
            if not self._advance(pool):
                return

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
            self._tell(events.TimePassed(at=self.now))
        else:
            return False
        self._drop_unwanted(pool)
        return True

    # Clients.

    def _wake_clients(self, pool: Pool) -> None:
        while self._woken:
            client = next(iter(self._woken))
            del self._woken[client]
            assignment = None if client in self._running else self._engine.pending(client)
            if assignment is not None:
                self._begin(assignment, pool)

    def _begin(self, assignment: Assignment, pool: Pool) -> None:
        self._tell(events.AssignmentTaken(at=self.now, session=assignment.client, assignment=assignment.id))
        work = self._work(assignment)
        self._begun += 1
        running = _Running(self.now + self._delay(assignment, work), self._begun, assignment, work)
        self._running[assignment.client] = running
        heapq.heappush(self._due, running)
        pool.begin(work)

    def _work(self, assignment: Assignment) -> Work:
        job = self.job
        trains = assignment.phase is PhaseKind.TRAIN
        return Work(
            id=assignment.id,
            phase=assignment.phase,
            client=assignment.client,
            index=self._index[assignment.client],
            round=assignment.round,
            seed=task_seed(job.spec.job.seed, assignment.round, assignment.phase, assignment.client),
            model=None if job.model is None else self._files.model_path(job.model.digest),
            out=self._files.temp(".update"),
            state=self._states.promoted(assignment.client, self._engine.book.fate) if trains else None,
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
        self._woken[work.client] = None
        if isinstance(answer, Failed):
            self._fail(work, answer)
        elif work.phase is PhaseKind.EVALUATE:
            self._evaluated(running, answer)
        else:
            self._deliver(running, answer)

    def _fail(self, work: Work, answer: Failed) -> None:
        if answer.traceback and not self._traced:
            # Once: what fails at one client is likely to fail at others in the same way.
            self._traced = True
            _log.warning("%s failed in round %d:\n%s", work.client, work.round, answer.traceback)
        self._tell(
            events.AssignmentFailed(
                at=self.now, session=work.client, assignment=work.id, outcome=answer.outcome, reason=answer.reason
            )
        )

    def _evaluated(self, running: _Running, answer: Finished) -> None:
        self._tell(
            events.EvaluationReported(
                at=self.now,
                session=running.work.client,
                assignment=running.work.id,
                examples=answer.examples,
                metrics=answer.metrics,
                seconds=self._spent(running),
            )
        )

    def _deliver(self, running: _Running, answer: Finished) -> None:
        work, assignment = running.work, running.assignment
        if work.phase is PhaseKind.INITIALIZE:
            self._files.keep_model(work.out, answer.digest)
        else:
            which = (assignment.job, assignment.round, assignment.attempt, assignment.client)
            self._files.keep_update(work.out, *which)
        if answer.state_saved:
            self._states.pend(work.client, work.id, work.state_out)
        self._tell(
            events.UpdateAccepted(
                at=self.now,
                session=work.client,
                assignment=work.id,
                examples=answer.examples,
                metrics=answer.metrics,
                seconds=self._spent(running),
                digest=answer.digest,
                length=answer.length,
            )
        )

    def _spent(self, running: _Running) -> float:
        """On the simulation's clock: what a record says must not depend on the machine."""
        return self._delay(running.assignment, running.work)

    def _renew_leases(self) -> None:
        """Those that work are heard of in time."""
        for running in self._running.values():
            if running.assignment.lease_until <= self.now:
                session = running.work.client
                self._tell(events.AssignmentRenewed(at=self.now, session=session, assignment=running.work.id))

    def _drop_unwanted(self, pool: Pool) -> None:
        """Clients stop what nobody wants from them any more."""
        for client in sorted(self._ended):
            running = self._running.get(client)
            if running is not None and running.work.id not in self._engine.book.assignments:
                pool.drop(running.work)
                del self._running[client]
                self._woken[client] = None
        self._ended.clear()

    # The coordinator's part.

    def _tell(self, event: events.Event) -> None:
        """Lets the engine decide on an event, and on what comes of it at once."""
        self._inbox.append(event)
        while self._inbox:
            step = self._engine.handle(self._inbox.pop(0))
            for record in step.records:
                self._note(record)
            for effect in step.effects:
                self._carry_out(effect)

    def _note(self, record: records.Record) -> None:
        if isinstance(record, records.ParticipationEnded):
            self._ended.add(record.participation.client)
        self.chronicle.take(self.now, record)
        if self._watch is not None:
            self._watch(self.now, record)

    def _carry_out(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Wake():
                self._woken.update(dict.fromkeys(effect.clients))
            case effects.Fold():
                self._inbox.append(self._fold(effect))
            case effects.DropUpdates():
                self._files.drop_updates(effect.job, effect.round, effect.attempt)
            case effects.DropModels():
                for digest in effect.digests:
                    self._files.model_path(digest).unlink(missing_ok=True)

    def _fold(self, effect: effects.Fold) -> events.Folded | events.FoldFailed:
        where = _Where(at=self.now, job=effect.job, round=effect.round, attempt=effect.attempt)
        try:
            made = make_version(self._files, self.job, effect)
        except Exception as error:  # as the coordinator does: the job pauses, with the reason
            return events.FoldFailed(reason=str(error) or repr(error), **where)
        return events.Folded(digest=made.digest, length=made.length, manifest=made.manifest, **where)
