"""Random interleavings: the invariants hold after every step, and every accepted update is folded exactly once."""

from collections import Counter
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fedelta.errors import FedeltaError
from fedelta_server.engine import effects, events, records
from fedelta_server.engine.words import Outcome, PhaseKind
from tests.server.engine.harness import INITIAL, Harness, session, toml

NAMES = ("ada", "bob", "cyd", "dee")
A_NAME = st.sampled_from(NAMES)
JOBS = st.sampled_from(["digits-1", "digits-2"])
SITES = st.sampled_from(["north", "south"])
BUFFERS = (
    "clients = 2\nbuffer = 1",
    "clients = 3\nbuffer = 2\nmax_staleness = 1",
    "buffer = 3\nmax_staleness = 0",
    "fraction = 0.5\nbuffer = 2",
)
COHORTS = ("clients = 3", "clients = 2\nover_select = 1.5", "clients = 2", "fraction = 0.5\nover_select = 1.5", "")
STOPS = (
    "",
    'name = "convergence"\nnorm = 0.5\nrounds = 2',
    'name = "target"\nat_least = 0.4',
    'name = "patience"\nrounds = 1',
)
JOB: dict[str, Any] = {
    "init": st.booleans(),
    "clients": st.sampled_from(COHORTS) | st.sampled_from(BUFFERS),
    "quorum": st.integers(1, 2),
    "every": st.integers(0, 2),
    "lag": st.integers(0, 2),
    "stop": st.sampled_from(STOPS),
    "north": st.booleans(),
}
"""What a job is like."""
ENDS = st.sampled_from(["done", "done", "done", "fails", "declines"])
WAITS = st.sampled_from([None, 0.0, 30.0])


class Federation(RuleBasedStateMachine):
    """Clients, operators, the clock and restarts act in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.h = Harness()
        self.folded: Counter[tuple[str, int, int, str]] = Counter()

    def _try(self, event: events.Event) -> None:
        try:
            self.h.send(event)
        except FedeltaError:
            self.h.check_rebuilt()

    def _busy(self) -> list[str]:
        """The clients that have work."""
        return [client.name for client in self.h.engine.clients if not client.left and self.h.work(client.name)]

    @initialize(sites=st.lists(SITES, min_size=len(NAMES), max_size=len(NAMES)), **JOB)
    def begin(self, sites: list[str], **job: Any) -> None:
        """Without clients and jobs nothing happens, and most random histories would have none."""
        for name, site in zip(NAMES, sites, strict=True):
            self.join(name, site)
        self.submit(**job)

    @precondition(lambda self: len(self.h.engine.book.jobs) < 2)
    @rule(**JOB)
    def submit(self, init: bool, clients: str, quorum: int, every: int, lag: int, stop: str, north: bool) -> None:
        needed = 1 if "buffer" in clients else quorum
        rounds = f'max = 3\n{clients}\nmin_clients = {quorum}\nmin_updates = {needed}\nattempts = 2\ndeadline = "100s"'
        text = toml(
            job='labels = ["site=north"]' if north else "share = 2",
            rounds=rounds,
            rest=f"[evaluate]\nevery = {every}\nlag = {lag}\n" + (f"[[stop]]\n{stop}\n" if every and stop else ""),
            init="m.safetensors" if init else "first-client",
        )
        self.h.submit(text, INITIAL if init else None)

    @rule(name=A_NAME, site=SITES, central=st.sampled_from([False, False, True]))
    def join(self, name: str, site: str, central: bool = False) -> None:
        registered = events.ClientRegistered(
            at=self.h.now,
            name=name,
            session=session(name),
            learners=("digits:Digits",),
            labels={"site": site},
            evaluates_only=central,
        )
        self._try(registered)
        self._try(events.PollStarted(at=self.h.now, session=session(name)))

    @rule(name=A_NAME, disconnected=st.booleans())
    def stop_polling(self, name: str, disconnected: bool) -> None:
        client = next((each for each in self.h.engine.clients if each.name == name and each.polls), None)
        if client is not None:
            self._try(events.PollEnded(at=self.h.now, session=session(name), disconnected=disconnected))

    @rule(name=A_NAME)
    def leave(self, name: str) -> None:
        self._try(events.ClientLeft(at=self.h.now, session=session(name)))

    @precondition(lambda self: bool(self._busy()))
    @rule(ends=st.lists(st.tuples(st.integers(0, 3), ENDS, st.integers(1, 5), WAITS), min_size=1, max_size=4))
    def end_work(self, ends: list[tuple[int, str, int, float | None]]) -> None:
        """One after the other, clients that have work end it."""
        for whose, end, examples, retry_after in ends:
            busy = self._busy()
            if busy:
                self._end(busy[whose % len(busy)], end, examples, retry_after)

    def _end(self, name: str, end: str, examples: int, retry_after: float | None) -> None:
        if end == "fails":
            self.h.fail(name)
        elif end == "declines":
            self.h.decline(name, retry_after=retry_after)
        elif self.h.take(name).phase is PhaseKind.EVALUATE:
            self.h.evaluate(name, examples, accuracy=0.5)
        else:
            self.h.update(name, examples)

    @precondition(lambda self: self.h.folds)
    @rule(fails=st.sampled_from([False, False, True]))
    def end_fold(self, fails: bool) -> None:
        fold = self.h.folds[0]
        if fails:
            self.h.folds.pop(0)
            self._try(
                events.FoldFailed(at=self.h.now, job=fold.job, round=fold.round, attempt=fold.attempt, reason="disk")
            )
            return
        made = len(self.h.of_kind(records.VersionMade))
        self.h.fold()
        if len(self.h.of_kind(records.VersionMade)) > made:
            self._count(fold)

    def _count(self, fold: effects.Fold) -> None:
        self.folded.update((fold.job, each.round, each.attempt, each.client) for each in fold.updates)

    @rule(seconds=st.sampled_from([1.0, 1.0, 12.0, 61.0, 150.0]))
    def pass_time(self, seconds: float) -> None:
        self.h.pass_time(seconds)

    @rule(job=JOBS)
    def pause(self, job: str) -> None:
        self._try(events.PauseRequested(at=self.h.now, job=job))

    @rule(job=JOBS)
    def resume(self, job: str) -> None:
        self._try(events.ResumeRequested(at=self.h.now, job=job))

    @rule(job=JOBS, rounds_max=st.integers(0, 5))
    def extend(self, job: str, rounds_max: int) -> None:
        self._try(events.ExtendRequested(at=self.h.now, job=job, rounds_max=rounds_max))

    @rule(job=JOBS, versions=st.sets(st.integers(0, 5)))
    def prune(self, job: str, versions: set[int]) -> None:
        self._try(events.PruneRequested(at=self.h.now, job=job, versions=tuple(versions)))

    @rule(job=JOBS, versions=st.sets(st.integers(0, 4), min_size=1))
    def evaluate(self, job: str, versions: set[int]) -> None:
        self._try(events.EvaluateRequested(at=self.h.now, job=job, versions=tuple(versions)))

    @rule(back=st.lists(A_NAME, unique=True), site=SITES)
    def restart(self, back: list[str], site: str) -> None:
        self.h.restart()
        for name in back:
            self.join(name, site)

    @invariant()
    def every_evaluation_is_closed_once(self) -> None:
        """What was opened is open, or was closed with the parts of all its clients."""
        opened = {
            (each.job, each.round, each.attempt): each.clients
            for each in self.h.journal
            if isinstance(each, records.PhaseOpened) and each.phase is PhaseKind.EVALUATE
        }
        closed = [(each.job, each.version, each.attempt) for each in self.h.evaluations()]
        assert len(closed) == len(set(closed))
        open_ones = {
            (job.id, each.version, each.attempt)
            for job in self.h.engine.book.jobs.values()
            for each in job.evaluations.values()
        }
        assert opened.keys() == open_ones | set(closed)
        assert open_ones.isdisjoint(closed)
        for each in self.h.evaluations():
            assert [part.client for part in each.clients] == opened[each.job, each.version, each.attempt]

    @invariant()
    def accepted_updates_are_folded_once(self) -> None:
        """What was accepted is folded, waits to be folded, or belongs to an attempt that failed as a whole."""
        failed = {
            (record.job, record.round, record.attempt)
            for record in self.h.journal
            if isinstance(record, records.RoundFailed)
        }
        lost = self._given_up()
        assert all(count == 1 for count in self.folded.values())
        for record in self.h.journal:
            if not isinstance(record, records.ParticipationEnded):
                continue
            part = record.participation
            if part.phase is not PhaseKind.TRAIN or part.outcome is not Outcome.ACCEPTED:
                continue
            attempt = (record.job, record.round, record.attempt)
            job = self.h.engine.book.jobs[record.job]
            waits = job.round is not None and (job.id, job.round.number, job.round.attempt) == attempt
            waits |= job.buffer is not None and record in [each.record for each in job.buffer.held]
            folded = (*attempt, part.client) in self.folded
            given_up = (*attempt, part.client) in lost if record.number else attempt in failed
            assert folded or waits or given_up or job.state.ended
            self._check_fate(record, folded=folded, waits=waits)

    def _given_up(self) -> set[tuple[str, int, int, str]]:
        """The accepted updates of asynchronous jobs that ended without them.

        Of the others so many make each version, one after the other.
        """
        found: set[tuple[str, int, int, str]] = set()
        for job in self.h.engine.book.jobs.values():
            if job.buffer is not None:
                found |= _given_up([each for each in self.h.journal if each.job == job.id], job.buffer.size)
        return found

    def _check_fate(self, record: records.ParticipationEnded, *, folded: bool, waits: bool) -> None:
        """What the client would hear of its update."""
        client = record.participation.client
        told = self.h.engine.book.fate(client, f"{record.job}.{record.round}.{record.attempt}.train.{client}")
        latest = max((key for key in self.folded if (key[0], key[3]) == (record.job, client)), default=None)
        if folded and record.number:  # even where its client gave others since
            assert told is True, "of asynchronous rounds all are known"
        elif folded:
            assert told is (latest == (record.job, record.round, record.attempt, client))
        else:
            assert told is (None if waits else False)


def _given_up(journal: list[records.Record], size: int) -> set[tuple[str, int, int, str]]:
    waiting: list[tuple[str, int, int, str]] = []
    given_up: set[tuple[str, int, int, str]] = set()
    folded = 0
    for record in journal:
        if isinstance(record, records.ParticipationEnded) and record.number:
            waiting.append((record.job, record.round, record.attempt, record.participation.client))
            assert record.number == folded + len(waiting)
        elif isinstance(record, records.VersionMade) and record.version:
            made = [(record.job, *where, name) for name, where in zip(record.clients, record.sources, strict=True)]
            assert made == waiting[:size]
            waiting, folded = waiting[size:], folded + size
        elif isinstance(record, records.JobStateChanged) and record.state.ended:
            given_up.update(waiting)
            waiting.clear()
    return given_up


TestFederation = Federation.TestCase
TestFederation.settings = settings(max_examples=30, stateful_step_count=50, deadline=None)
