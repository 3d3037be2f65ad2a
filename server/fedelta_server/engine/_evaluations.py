"""Evaluations: they are opened for a version when it is there, and go on beside the rounds that follow."""

from collections.abc import Collection, Iterable

from fedelta._words import plural
from fedelta.errors import BadRequestError, NotFoundError, WrongStateError
from fedelta_server.engine import records
from fedelta_server.engine._phases import Assignment, Evaluation, weighted_mean
from fedelta_server.engine._selection import draw_evaluators, fitting
from fedelta_server.engine._state import Job
from fedelta_server.engine._work import Work
from fedelta_server.engine.words import Outcome, PhaseKind

MOST_WAITING = 2
"""Of a job's evaluations so many wait at a client. Where a newer one comes, the oldest of them is given up: a client
that is slower than the rounds evaluates fewer versions, instead of falling behind for good."""

MOST_REQUESTED = 100
"""So many versions can be asked to be evaluated at once."""


class Evaluations:
    """Decides about evaluations."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def follow(self, job: Job, version: int, now: float) -> None:
        """Opens the evaluation of a version that was just made, if its job wants it to be evaluated."""
        if not job.evaluates(version):
            return
        fit = fitting(self._work.clients, job, now)
        central = self._central(fit)
        names = central + draw_evaluators(job, version, [name for name in fit if name not in central])
        if names:
            self._make_room(job, names, now)
            self._open(job, version, names, now)

    def request(self, job: Job, versions: Collection[int], now: float) -> None:
        """Opens evaluations of versions at all clients that can, unless they are open.

        Raises `BadRequestError`, `NotFoundError` for versions that are not there, `WrongStateError` where nobody can.
        """
        _check_requested(job, versions)
        fit = fitting(self._work.clients, job, now)
        if not fit:
            raise WrongStateError(
                f"no client that is connected can evaluate for job {job.id!r}; `fedelta clients` shows who is there"
            )
        for version in sorted(versions):
            if version not in job.evaluations:
                self._open(job, version, fit, now, requested=True)

    def advance(self, job: Job, version: int, now: float) -> None:
        """Closes an evaluation, if all its parts are over."""
        evaluation = job.evaluations.get(version)
        if evaluation is not None and not evaluation.phase.open:
            self._close(job, evaluation, now)

    def reach_deadline(self, timer: str, now: float) -> bool:
        """Ends the evaluation whose deadline a timer is without those who are not done. False: it is no such timer."""
        found = self._of_timer(timer)
        if found is not None:
            job, evaluation = found
            self._work.close_all(evaluation.phase, Outcome.LATE, "the deadline passed")
            self._close(job, evaluation, now)
        return found is not None

    def cancel(self, job: Job, reason: str, now: float) -> None:
        """Ends all evaluations of a job with what came in."""
        for evaluation in list(job.evaluations.values()):
            self._work.close_all(evaluation.phase, Outcome.CANCELLED, reason)
            self._close(job, evaluation, now)

    def _open(self, job: Job, version: int, names: Iterable[str], now: float, *, requested: bool = False) -> None:
        clients = sorted(names)
        opened = records.PhaseOpened(
            job=job.id,
            round=version,
            attempt=max(job.versions[version].attempt, job.evaluated.get(version, 0) + 1),
            phase=PhaseKind.EVALUATE,
            clients=clients,
            turns=job.turns + job.cost(len(clients)),
            central=self._central(clients),
            requested=requested,
        )
        self._work.record(opened)
        evaluation = job.evaluations[version]
        evaluation.opened_at = now
        self._work.wake(job, evaluation.phase, clients)

    def _central(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self._work.clients.of_name(name).evaluates_only]

    def _make_room(self, job: Job, names: Iterable[str], now: float) -> None:
        """Makes room for another evaluation at these clients."""
        # What is decided on metrics waits for those of versions before the lag: those are never given up.
        most = max(MOST_WAITING, job.spec.evaluate.lag + 1)
        for name in names:
            waiting = self._waiting(job, name)
            for assignment in waiting[: max(0, len(waiting) + 1 - most)]:
                self._work.close(assignment, Outcome.LATE, "newer versions wait to be evaluated")
                self.advance(job, assignment.round, now)

    def _waiting(self, job: Job, client: str) -> list[Assignment]:
        """A client's evaluations of a job that it has not begun, oldest first, but for those that were asked for."""
        return [
            each
            for each in self._work.book.queues.get(client, {}).values()
            if each.job == job.id
            and each.phase is PhaseKind.EVALUATE
            and not (each.taken or job.evaluations[each.round].requested)
        ]

    def _close(self, job: Job, evaluation: Evaluation, now: float) -> None:
        self._work.timers.drop(evaluation.phase.timer)
        self._work.record(
            records.EvaluationClosed(
                job=job.id,
                version=evaluation.version,
                attempt=evaluation.attempt,
                seconds=now - evaluation.opened_at,
                clients=sorted(evaluation.parts, key=lambda part: part.client),
                metrics=weighted_mean(evaluation.accepted(central=False)),
                central=weighted_mean(evaluation.accepted(central=True)),
                bytes_up=evaluation.bytes_up,
                bytes_down=evaluation.bytes_down,
            )
        )

    def _of_timer(self, timer: str) -> tuple[Job, Evaluation] | None:
        jobs = self._work.book.jobs.values()
        open_ones = ((job, each) for job in jobs for each in job.evaluations.values())
        return next((found for found in open_ones if found[1].phase.timer == timer), None)


def _check_requested(job: Job, versions: Collection[int]) -> None:
    unknown = sorted(set(versions) - job.versions.keys())
    if unknown:
        raise NotFoundError(f"job {job.id!r} has no version {_named(unknown)}")
    pruned = sorted(set(versions) & job.pruned)
    if pruned:
        raise NotFoundError(
            f"{plural(len(pruned), 'version')} of job {job.id!r} cannot be evaluated, {_named(pruned)}: pruned. "
            "--keep-versions and --keep-every of `fedelta server` say which are kept in future"
        )
    if not 0 < len(versions) <= MOST_REQUESTED:
        raise BadRequestError(f"{len(versions)} versions are to be evaluated; name 1 to {MOST_REQUESTED}")


def _named(versions: Iterable[int]) -> str:
    return ", ".join(map(str, versions))
