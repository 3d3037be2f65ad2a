"""Drives an engine as the coordinator does, without sockets, clocks or disks."""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import blake3

from fedelta.config import parse_job
from fedelta_server.engine import Assignment, Engine, Job, ModelRef, Step, effects, events, records
from fedelta_server.engine.words import Outcome, PhaseKind
from tests.server.engine import invariants

R = TypeVar("R", bound=records.Record)

INITIAL = ModelRef(0, blake3.blake3(b"initial").digest(), 100)


def toml(*, job: str = "", rounds: str = "max = 2", rest: str = "", init: str = "model.safetensors") -> str:
    return f'[job]\nname = "digits"\nseed = 7\n{job}\n[model]\ninit = "{init}"\n[rounds]\n{rounds}\n{rest}\n'


class Harness:
    """An engine, the records it made, and a clock."""

    def __init__(self) -> None:
        self.engine = Engine()
        self.journal: list[records.Record] = []
        self.now = 1000.0
        self.folds: list[effects.Fold] = []

    def send(self, event: events.Event) -> Step:
        step = self.engine.handle(event)
        self.journal += step.records
        self.folds += [effect for effect in step.effects if isinstance(effect, effects.Fold)]
        invariants.check(self.engine, self.now)
        invariants.check_nobody_overtaken(self.engine, step.records, self.now)
        invariants.check_decided_in_time(self.engine, step.records)
        self.check_rebuilt()
        return step

    def check_rebuilt(self) -> None:
        """An engine built from the records believes what this one believes."""
        mine = durable(self.engine)
        for known in (self.journal, self.outline()):
            assert durable(Engine(known)) == mine

    def outline(self) -> list[records.Record]:
        """What the journal gives back: of what lies before all that is open of a job not everything."""
        since = {job: self._since(job) for job in self.engine.book.jobs}
        known = (*records.OUTLINE, records.ParticipationEnded)
        return [each for index, each in enumerate(self.journal) if isinstance(each, known) or index >= since[each.job]]

    def _since(self, job: str) -> int:
        """Where the first record stands that is needed whatever it is."""
        closed = [(0, 0)]
        for index, each in enumerate(self.journal):
            if isinstance(each, records.RoundClosed) and each.job == job:
                closed.append((index, each.reach))
        return closed[max(0, len(closed) - 1 - closed[-1][1])][0]

    def restart(self) -> None:
        """The process dies; another one takes over what was committed."""
        self.engine = Engine(self.journal)
        self.folds = []
        step = self.engine.resume(self.now)
        self.journal += step.records
        self.folds += [effect for effect in step.effects if isinstance(effect, effects.Fold)]
        invariants.check(self.engine, self.now)

    def submit(self, text: str, initial: ModelRef | None = INITIAL) -> str:
        spec = parse_job(text, "test")
        step = self.send(events.JobSubmitted(at=self.now, spec=spec, toml=text, unix_time=0.0, initial=initial))
        return step.records[0].job

    def join(self, *names: str, learners: tuple[str, ...] = ("digits:Digits",), **labels: str) -> None:
        for name in names:
            self.send(
                events.ClientRegistered(at=self.now, name=name, session=session(name), learners=learners, labels=labels)
            )
            self.send(events.PollStarted(at=self.now, session=session(name)))

    def job(self, job_id: str) -> Job:
        return self.engine.book.job(job_id)

    def work(self, name: str) -> Assignment | None:
        return self.engine.pending(session(name))

    def take(self, name: str) -> Assignment:
        assignment = self.work(name)
        assert assignment is not None, f"{name} has no work"
        self.send(events.AssignmentTaken(at=self.now, session=session(name), assignment=assignment.id))
        return assignment

    def update(self, name: str, examples: int = 10, **metrics: float) -> Assignment:
        """The client finishes its TRAIN or INITIALIZE assignment."""
        assignment = self.take(name)
        self.send(
            events.UpdateAccepted(
                at=self.now,
                session=session(name),
                assignment=assignment.id,
                examples=examples,
                metrics=metrics,
                seconds=1.0,
                digest=digest_of(assignment.id),
                length=100,
            )
        )
        return assignment

    def evaluate(self, name: str, examples: int = 10, **metrics: float) -> None:
        assignment = self.take(name)
        assert assignment.phase is PhaseKind.EVALUATE
        self.send(
            events.EvaluationReported(
                at=self.now,
                session=session(name),
                assignment=assignment.id,
                examples=examples,
                metrics=metrics,
                seconds=1.0,
            )
        )

    def fail(self, name: str, reason: str = "ValueError: no") -> None:
        assignment = self.take(name)
        self.send(
            events.AssignmentFailed(
                at=self.now, session=session(name), assignment=assignment.id, outcome=Outcome.FAILED, reason=reason
            )
        )

    def decline(self, name: str, reason: str = "not in office hours", retry_after: float | None = None) -> None:
        assignment = self.take(name)
        self.send(
            events.AssignmentFailed(
                at=self.now,
                session=session(name),
                assignment=assignment.id,
                outcome=Outcome.DECLINED,
                reason=reason,
                retry_after=retry_after,
            )
        )

    def fold(self, norm: float = 0.0) -> effects.Fold:
        """The oldest fold that was asked for is done."""
        fold = self.folds.pop(0)
        digest = digest_of(f"{fold.job}/{fold.round}")
        self.send(
            events.Folded(
                at=self.now,
                job=fold.job,
                round=fold.round,
                attempt=fold.attempt,
                digest=digest,
                length=100,
                manifest=digest_of(f"manifest of {fold.job}/{fold.round}"),
                norm=norm,
            )
        )
        return fold

    def pass_time(self, seconds: float) -> None:
        """Time passes, and the engine is woken whenever it asked to be."""
        until = self.now + seconds
        while (wake := self.engine.wake_at()) is not None and wake <= until:
            self.now = max(self.now, wake)
            self.send(events.TimePassed(at=self.now))
        self.now = until

    def of_kind(self, kind: type[R]) -> list[R]:
        return [record for record in self.journal if isinstance(record, kind)]

    def closed(self) -> list[records.RoundClosed]:
        return [record for record in self.journal if isinstance(record, records.RoundClosed)]

    def evaluations(self) -> list[records.EvaluationClosed]:
        return [record for record in self.journal if isinstance(record, records.EvaluationClosed)]


def session(name: str) -> str:
    return f"session-of-{name}"


def digest_of(text: str) -> bytes:
    return blake3.blake3(text.encode()).digest()


def durable(engine: Engine) -> object:
    """The part of the state that records must restore."""
    return {name: _durable(job) for name, job in engine.book.jobs.items()}


VOLATILE = {
    "opened_at",
    "bytes_up",
    "bytes_down",
    "folding",
    "deadline",
    "lease_until",
    "taken",
    "due",
    "progress",
    "standing",
    "judged",
    "verdict",
    "awaits_metrics",
}


def _durable(value: Any) -> object:
    if isinstance(value, dict):
        return {key: _durable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_durable(inner) for inner in value]
    if not is_dataclass(value) or value.__hash__ is not None:  # the frozen ones have nothing volatile
        return value
    return {each.name: _durable(getattr(value, each.name)) for each in fields(value) if each.name not in VOLATILE}
