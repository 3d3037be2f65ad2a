"""Model versions by number or by name."""

from collections.abc import Iterable

from fedelta.config import Version
from fedelta.errors import NotFoundError
from fedelta_server.best import best_version, why_none
from fedelta_server.coordinator import Coordinator
from fedelta_server.engine import Job, ModelRef
from fedelta_server.evaluations import measured


class Versions:
    """Finds the versions of jobs' models."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    async def resolve(self, job_id: str, version: Version) -> ModelRef:
        """The model of a job that a number, "latest" or "best" names. Raises `NotFoundError`, which says what there is.

        The latest is the newest, although it may not be evaluated yet; the best is one of those that are.
        """
        job = self._coordinator.engine.book.job(job_id)
        if job.model is None:
            raise NotFoundError(f"job {job_id!r} has no model yet; its first client will make it")
        if version == "latest":
            return job.model
        return self._numbered(job, await self._best(job) if version == "best" else version)

    async def _best(self, job: Job) -> int:
        closed = await self._coordinator.in_thread(self._coordinator.journal.closed, job.id)
        known = measured((record for _, record in closed), without=job.pruned)
        found = best_version(job.spec.evaluate, known)
        if found is None:
            raise NotFoundError(f"job {job.id!r} has no best version: {why_none(job.spec.evaluate, known)}")
        return found

    def _numbered(self, job: Job, number: int) -> ModelRef:
        made = job.versions.get(number)
        if made is None:
            raise NotFoundError(f"job {job.id!r} has no version {number}; it has {_spans(job.versions)}")
        if number in job.pruned:
            kept = _spans(job.versions.keys() - job.pruned)
            raise NotFoundError(
                f"version {number} of job {job.id!r} was pruned: the coordinator keeps {kept} of its versions. "
                "--keep-versions and --keep-every of `fedelta server` say which are kept in future"
            )
        return made.model


def _spans(numbers: Iterable[int]) -> str:
    """Numbers in words: "0, 4 to 6 and 9"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    *before, last = [" to ".join(map(str, span)) for span in spans]
    return f"{', '.join(before)} and {last}" if before else last
