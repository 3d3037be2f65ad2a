"""Which files of past rounds are kept."""

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedelta.config import EvaluateConfig
from fedelta_server.best import best_version
from fedelta_server.engine import Job
from fedelta_server.evaluations import measured
from fedelta_server.store.journal import Journal


@dataclass(frozen=True, kw_only=True)
class Keep:
    """What an operator wants to be kept of each job."""

    updates: int = 0
    """The update files of so many last rounds, so that `fedelta verify` can recompute these."""
    versions: int = 0
    """So many last versions. 0: all."""
    every: int = 0
    """Besides the last ones every so many-th version. 0: none."""

    def prunable(self, job: Job, best: int | None) -> tuple[int, ...]:
        """The versions of a job that are not wanted: neither among the last, nor a multiple, nor the best, nor 0."""
        if not self.versions or job.model is None:
            return ()
        first = job.model.version - self.versions + 1
        found = (number for number in job.versions if 0 < number < first and number not in job.pruned)
        return tuple(number for number in found if number != best and (not self.every or number % self.every))

    def states(self, job: Job) -> range:
        """The versions of a job whose state is kept: the newest, to go on from, and those that kept updates start from.

        A version is recomputed from its updates, its parent's model and its parent's state.
        """
        newest = 0 if job.model is None else job.model.version
        return range(max(1, newest - self.updates), newest + 1)

    def with_updates(self, job: Job) -> set[tuple[str, int, int]]:
        """The rounds (job, round, attempt) of a job whose update files are kept."""
        if job.model is None:
            return set()
        first = max(1, job.model.version - self.updates + 1)
        return {
            (job.id, *source)
            for number in range(first, job.model.version + 1)
            for source in job.versions[number].sources or {(number, job.versions[number].attempt)}
        }


KEEP_VERSIONS = Keep()
"""All versions, no updates."""


@dataclass
class _Seen:
    sequence: int = 0
    measured: dict[int, Mapping[str, float]] = field(default_factory=dict)


class Best:
    """The best version of each job. Reads of the journal only what came since it was last asked. Safe with threads."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._seen: defaultdict[str, _Seen] = defaultdict(_Seen)
        self._lock = threading.Lock()

    def of(self, job: str, evaluate: EvaluateConfig) -> int | None:
        """The best version of a job. None: none was evaluated by what counts."""
        with self._lock:
            seen = self._seen[job]
            for sequence, closed in self._journal.closed(job, seen.sequence):
                seen.measured |= measured([closed])
                seen.sequence = sequence
            return best_version(evaluate, seen.measured)
