"""What is known of a job that is being followed: a value, and how events and answers change it.

Nothing here draws or asks anybody: `_live` draws it, `_follow` feeds it.
"""

import functools
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from fedelta.admin import (
    ClientInfo,
    EvaluationClosed,
    Event,
    JobExtended,
    JobInfo,
    JobState,
    Participation,
    ParticipationEnded,
    Phase,
    PhaseExtended,
    PhaseOpened,
    RoundClosed,
    RoundFailed,
    StateChanged,
    VersionMade,
)

_MARKS_KEPT = 11


@dataclass(frozen=True, kw_only=True)
class OpenPhase:
    """A phase of a round that is under way."""

    round: int
    attempt: int
    phase: Phase
    clients: tuple[str, ...]
    since: datetime
    ended: Mapping[str, Participation] = field(default_factory=dict)
    """The parts that are over, by client."""

    @property
    def complete(self) -> bool:
        """Whether every client's part is over: what remains is the coordinator's."""
        return len(self.ended) == len(self.clients)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A job as it is followed."""

    job: str
    rounds_max: int = 0
    """0 while it is not known."""
    state: JobState = JobState.QUEUED
    reason: str = ""
    rounds_done: int = 0
    open: OpenPhase | None = None
    """The phase that the next version waits for."""
    evaluations: Mapping[int, OpenPhase] = field(default_factory=dict)
    """The evaluations that are open, by version; training goes on beside them."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Of the newest version that was evaluated, or else of the last training."""
    central: Mapping[str, float] = field(default_factory=dict)
    """Of that version's central evaluation."""
    evaluated: int | None = None
    """That version. None: `metrics` are of training."""
    bytes_up: int = 0
    bytes_down: int = 0
    """In the closed rounds and evaluations together."""
    marks: tuple[datetime, ...] = ()
    """When the first round that counts here was opened, then when each of the latest ones closed."""
    waiting_for: str = ""
    clients: Mapping[str, ClientInfo] = field(default_factory=dict)
    """By name, as of a moment ago."""
    away_since: datetime | None = None
    """Since when the coordinator has not answered; None: it does."""

    def round_seconds(self) -> float | None:
        """What a round takes of late, with all the waiting in it. None: no round is closed yet."""
        spans = [(later - earlier).total_seconds() for earlier, later in pairwise(self.marks)]
        return statistics.median(spans) if spans else None

    def seconds_left(self, now: datetime) -> float | None:
        """An estimate of when the last round closes. None: there is nothing to estimate from."""
        a_round = self.round_seconds()
        if a_round is None or self.state is not JobState.RUNNING or self.rounds_done >= self.rounds_max:
            return None
        this_one = max(0.0, a_round - (now - self.marks[-1]).total_seconds())
        return this_one + a_round * max(0, self.rounds_max - self.rounds_done - 1)

    @property
    def shown(self) -> OpenPhase | None:
        """The phase whose clients are of interest: what is waited for, the oldest evaluation where that is all."""
        return self.open or next((self.evaluations[version] for version in sorted(self.evaluations)), None)

    def declined(self) -> dict[str, str]:
        """The clients that do not take part in the job, each with its reason."""
        return {name: client.declined[self.job] for name, client in self.clients.items() if self.job in client.declined}


def after(progress: Progress, event: Event) -> Progress:
    """What is known after an event. One of a kind that is not known here changes nothing."""
    return _after(event.what, progress, event.time)


def with_clients(progress: Progress, clients: Iterable[ClientInfo]) -> Progress:
    """The clients as the coordinator sees them."""
    return replace(progress, clients={client.name: client for client in clients}, away_since=None)


def with_job(progress: Progress, info: JobInfo) -> Progress:
    """What no event tells: how many rounds there are to be, and what the job waits for."""
    return replace(progress, rounds_max=info.rounds_max, waiting_for=info.waiting_for, away_since=None)


def away(progress: Progress, now: datetime) -> Progress:
    """The coordinator does not answer."""
    return progress if progress.away_since else replace(progress, away_since=now)


@functools.singledispatch
def _after(what: Any, progress: Progress, time: datetime) -> Progress:
    del what, time
    return progress


@_after.register
def _state_changed(what: StateChanged, progress: Progress, time: datetime) -> Progress:
    del time
    found = replace(progress, state=what.state, reason=what.reason)
    if what.state is JobState.PAUSED or what.state.ended:
        # What lies between this and going on is no part of a round's time.
        found = replace(found, marks=())
    return replace(found, open=None, evaluations={}) if what.state.ended else found


@_after.register
def _phase_opened(what: PhaseOpened, progress: Progress, time: datetime) -> Progress:
    opened = OpenPhase(round=what.round, attempt=what.attempt, phase=what.phase, clients=what.clients, since=time)
    if what.phase is Phase.EVALUATE:
        return replace(progress, evaluations={**progress.evaluations, what.round: opened})
    marks = progress.marks or ((time,) if what.phase is Phase.TRAIN else ())
    if progress.open is not None and progress.open.phase is what.phase:
        opened = _joined(progress.open, opened)
    return replace(progress, open=opened, waiting_for="", marks=marks)


def _joined(open_: OpenPhase, further: OpenPhase) -> OpenPhase:
    """A phase with those who were asked while it is open: in asynchronous rounds whoever is done is asked anew."""
    clients = tuple(sorted({*open_.clients, *further.clients}))
    ended = {name: part for name, part in open_.ended.items() if name not in further.clients}
    return replace(further, clients=clients, since=open_.since, ended=ended)


@_after.register
def _phase_extended(what: PhaseExtended, progress: Progress, time: datetime) -> Progress:
    del time

    def extended(phase: OpenPhase) -> OpenPhase:
        return replace(phase, clients=tuple(sorted((*phase.clients, *what.clients))))

    return _in_phase(progress, what.round, what.phase, extended)


@_after.register
def _participation_ended(what: ParticipationEnded, progress: Progress, time: datetime) -> Progress:
    del time
    part = what.participation

    def without(phase: OpenPhase) -> OpenPhase:
        return replace(phase, ended={**phase.ended, part.client: part})

    return _in_phase(progress, what.round, part.phase, without)


def _in_phase(progress: Progress, number: int, phase: Phase, change: Callable[[OpenPhase], OpenPhase]) -> Progress:
    """What is known after something happened in an open phase."""
    if phase is not Phase.EVALUATE:
        return replace(progress, open=change(progress.open)) if progress.open is not None else progress
    found = progress.evaluations.get(number)
    return replace(progress, evaluations={**progress.evaluations, number: change(found)}) if found else progress


@_after.register
def _version_made(what: VersionMade, progress: Progress, time: datetime) -> Progress:
    del time
    # Later versions are made within a round.
    return progress if what.version else replace(progress, open=None)


@_after.register
def _round_closed(what: RoundClosed, progress: Progress, time: datetime) -> Progress:
    closed = what.round
    if closed.metrics:
        # It waited for its evaluation: a coordinator of before evaluations overlapped.
        progress = replace(progress, metrics=closed.metrics, evaluated=closed.number)
    elif progress.evaluated is None:
        progress = replace(progress, metrics=closed.train_metrics or progress.metrics)
    return replace(
        progress,
        rounds_done=closed.number,
        open=_still_open(progress.open, closed.number + 1, time),
        bytes_up=progress.bytes_up + closed.bytes_up,
        bytes_down=progress.bytes_down + closed.bytes_down,
        marks=(*progress.marks, time)[-_MARKS_KEPT:] if progress.marks else (),
    )


def _still_open(phase: OpenPhase | None, number: int, time: datetime) -> OpenPhase | None:
    """What is open after a round was closed: in asynchronous rounds others train on, for one that comes later."""
    at_work = () if phase is None else tuple(name for name in phase.clients if name not in phase.ended)
    return replace(phase, round=number, clients=at_work, since=time, ended={}) if phase and at_work else None


@_after.register
def _evaluation_closed(what: EvaluationClosed, progress: Progress, time: datetime) -> Progress:
    del time
    found = what.evaluation
    others = {version: phase for version, phase in progress.evaluations.items() if version != found.version}
    progress = replace(progress, evaluations=others, bytes_down=progress.bytes_down + found.bytes_down)
    if found.version < (progress.evaluated or 0) or not (found.metrics or found.central):
        return progress
    return replace(progress, metrics=found.metrics, central=found.central, evaluated=found.version)


@_after.register
def _job_extended(what: JobExtended, progress: Progress, time: datetime) -> Progress:
    del time
    return replace(progress, rounds_max=what.rounds_max)


@_after.register
def _round_failed(what: RoundFailed, progress: Progress, time: datetime) -> Progress:
    del what, time
    return replace(progress, open=None)
