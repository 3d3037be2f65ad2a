"""Fair sharing: whose turn it is where jobs want the same clients.

Stride scheduling (Waldspurger and Weihl 1995), in client turns: a job's `turns` are how many clients its phases had,
divided by its share, and of the jobs that wait the one with the least goes first. docs/architecture.md has the rules
beside that, with what they promise.
"""

from collections.abc import Collection
from dataclasses import dataclass

from fedelta_server.engine._book import Book
from fedelta_server.engine._clients import Clients
from fedelta_server.engine._selection import (
    Cohort,
    draw_cohort,
    draw_more,
    likely_cohort,
    likely_more,
    ranked,
    trainable,
)
from fedelta_server.engine._state import Job


@dataclass(frozen=True)
class Turn:
    """A job opens its next round with these clients."""

    job: Job
    cohort: Cohort


def next_turn(book: Book, clients: Clients, now: float) -> Turn | None:
    """Whose turn it is. None: no job that waits can open a round.

    Of the jobs, it changes `standing`: which of them compete now, and where they stand.
    """
    if not any(job.waits for job in book.jobs.values()):
        return None
    return _Contest(book, clients, now).next_turn()


class _Contest:
    """The jobs that compete now: those with an open round, and those that wait and lack nothing but idle clients."""

    def __init__(self, book: Book, clients: Clients, now: float) -> None:
        self._book = book
        self._clients = clients
        self._now = now
        self._live = [client for client in clients if client.live(now)]
        self._known_fit: dict[str, list[str]] = {}
        self._jobs = [job for job in book.jobs.values() if job.runnable and self._competes(job)]
        self._admit()

    def next_turn(self) -> Turn | None:
        passed_over: list[Job] = []
        for job in sorted((job for job in self._jobs if job.waits), key=_position):
            cohort = self._draw(job, self._idle(job))
            if cohort is not None:
                return self._claim(passed_over, job) or Turn(job, cohort)
            passed_over.append(job)
        return None

    def _draw(self, job: Job, idle: Collection[str]) -> Cohort | None:
        if job.buffered is not None:
            return draw_more(job, job.buffered, idle, len(self._fit(job)), self._clients)
        return draw_cohort(job, idle, self._clients)

    def _competes(self, job: Job) -> bool:
        competes = not job.waits or len(self._fit(job)) >= job.ready_needed
        if not competes:
            job.standing = None
        return competes

    def _fit(self, job: Job) -> list[str]:
        # When asked for only: there may be many clients, and most jobs have their round.
        if job.id not in self._known_fit:
            self._known_fit[job.id] = trainable(self._live, job, self._now)
        return self._known_fit[job.id]

    def _admit(self) -> None:
        """Lets jobs begin to compete: nobody claims turns for a time in which it did not.

        One that has had less than all its rivals had when they opened their latest rounds is put level with the
        least of those. Their latest rounds do not count: so a job loses nothing by being between two of its own.
        """
        levels = {job.id: _position(job) - (job.turns - job.level) for job in self._jobs}
        for job in self._jobs:
            if job.waits and job.standing is None:
                rivals = [levels[other.id] for other in self._jobs if other is not job and self._are_rivals(job, other)]
                job.standing = max(job.turns, min(rivals, default=0.0))

    def _are_rivals(self, one: Job, other: Job) -> bool:
        return not set(self._fit(one)).isdisjoint(self._fit(other))

    def _idle(self, job: Job) -> list[str]:
        """The idle clients that a job may take."""
        held = {name for other in self._jobs if other is not job for name in self._held(other, _position(job))}
        return [name for name in self._unoccupied(job) if name not in held]

    def _held(self, job: Job, than: float) -> list[str]:
        """The clients that a job finds again after its fold, if it has had less `than` who asks.

        Without that, whoever waits would get them in the short time of each fold, whatever the shares (the deceptive
        idleness of Iyer and Druschel 2001). A fold needs no client and ends by itself.
        """
        if not job.trains_after_fold or job.turns >= than:
            return []
        if job.buffered is not None:
            return likely_more(job, job.buffered, self._unoccupied(job), len(self._fit(job)), self._clients)
        return likely_cohort(job, self._unoccupied(job), self._clients)

    def _unoccupied(self, job: Job) -> list[str]:
        return [name for name in self._fit(job) if name not in self._book.training]

    def _claim(self, passed_over: list[Job], overtaker: Job) -> Turn | None:
        """The turn of a job that lacks idle clients only, before a rival that has had more would get ahead of it.

        Its assignments queue at the busy ones; no client is kept idle for it. An asynchronous job that is at work needs
        one idle client at a time, so it is not overtaken for want of them.
        """
        for job in passed_over:
            if not job.at_work and self._are_rivals(job, overtaker):
                idle = self._idle(job)
                free = self._next_free(job)[: job.ready_needed - len(idle)]
                cohort = self._draw(job, idle + free)
                if cohort is not None:
                    return Turn(job, cohort)
        return None

    def _next_free(self, job: Job) -> list[str]:
        """The busy clients of a job; those with the least to do first."""
        training = self._book.training
        busy = ranked(job, (name for name in self._fit(job) if name in training))
        return sorted(busy, key=lambda name: training[name])


def _position(job: Job) -> float:
    """A job's turns, as they count in the competition."""
    return job.turns if job.standing is None else job.standing
