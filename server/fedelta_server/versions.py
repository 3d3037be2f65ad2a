"""Model versions by number or by name."""

from collections.abc import Sequence

from fedelta.config import EvaluateConfig, Version
from fedelta.errors import NotFoundError
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import Job, ModelRef, records

_USUAL: tuple[tuple[str, str], ...] = (("accuracy", "max"), ("loss", "min"))
"""What versions are compared by where a job does not say, in this order, with the goal of each."""


class Versions:
    """Finds the versions of jobs' models."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def resolve(self, job_id: str, version: Version) -> ModelRef:
        """The model of a job that a number, "latest" or "best" names. Raises `NotFoundError`, which says what there is.

        The latest is the newest, although its round may not be closed yet; the best is one of a closed round.
        """
        job = self._coordinator.engine.book.job(job_id)
        if job.model is None:
            raise NotFoundError(f"job {job_id!r} has no model yet; its first client will make it")
        if version == "latest":
            return job.model
        return await self._numbered(job, await self._best(job) if version == "best" else version)

    async def _best(self, job: Job) -> int:
        rounds = await self._coordinator.in_thread(self._coordinator.journal.rounds, job.id)
        found = best_version(job.spec.evaluate, rounds)
        if found is None:
            raise NotFoundError(f"job {job.id!r} has no best version: {_why_none(job.spec.evaluate, rounds)}")
        return found

    async def _numbered(self, job: Job, number: int) -> ModelRef:
        for known in (job.model, job.initial):
            if known is not None and known.version == number:
                return known
        versions = await self._coordinator.in_thread(self._coordinator.journal.versions, job.id)
        made = next((each for each in versions if each.version == number), None)
        if made is None:
            newest = job.model.version if job.model is not None else 0
            raise NotFoundError(f"job {job.id!r} has no version {number}; it has 0 to {newest}")
        return ModelRef(made.version, made.digest, made.length)


def best_version(evaluate: EvaluateConfig, rounds: Sequence[records.RoundClosed]) -> int | None:
    """The version with the best evaluation, the earlier of equals. None: none was evaluated by what counts."""
    metric, goal = _measure(evaluate, rounds)
    found = [(closed.metrics[metric], closed.number) for closed in rounds if metric in closed.metrics]
    if not found:
        return None
    pick = max if goal == "max" else min
    value = pick(value for value, _ in found)
    return min(number for each, number in found if each == value)


def _measure(evaluate: EvaluateConfig, rounds: Sequence[records.RoundClosed]) -> tuple[str, str]:
    """The metric that counts, and its goal."""
    if evaluate.metric:
        return evaluate.metric, evaluate.goal
    reported = _reported(rounds)
    return next((usual for usual in _USUAL if usual[0] in reported), _USUAL[0])


def _reported(rounds: Sequence[records.RoundClosed]) -> set[str]:
    return {name for closed in rounds for name in closed.metrics}


def _why_none(evaluate: EvaluateConfig, rounds: Sequence[records.RoundClosed]) -> str:
    reported = _reported(rounds)
    if not reported:
        return 'none of its versions was evaluated; name "latest" or a number'
    wanted = evaluate.metric or " or ".join(name for name, _ in _USUAL)
    return f"its clients report {', '.join(sorted(reported))}, but not {wanted}; evaluate.metric says what counts"
