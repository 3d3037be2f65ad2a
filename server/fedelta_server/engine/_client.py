"""A connected client."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedelta.config import JobSpec

if TYPE_CHECKING:
    from fedelta_server.engine._state import Job

LIVENESS_SECONDS = 15.0
"""A session that is silent for this long counts as gone."""


@dataclass(frozen=True)
class Decline:
    """A client does not take part in a job: until when (infinity: until it registers again), and why."""

    until: float
    reason: str


@dataclass
class Client:
    """A registered client. All of it is volatile: clients register again after a restart."""

    name: str
    session: str
    learners: tuple[str, ...]
    labels: Mapping[str, str]
    software_version: str
    last_heard: float
    evaluates_only: bool = False
    """It has held-out data only: it never trains."""
    declined: dict[str, Decline] = field(default_factory=dict)
    """By job id: what it does not take part in, and what it did not until lately."""
    polls: int = 0
    disconnected: bool = False
    """Its connection broke while it waited for work, or it let a lease run out: it is probably dead."""
    left: bool = False

    def live(self, now: float) -> bool:
        """Whether it can be expected to take work."""
        if self.left or self.disconnected:
            return False
        return self.polls > 0 or now - self.last_heard < LIVENESS_SECONDS

    def offers(self, spec: JobSpec) -> bool:
        """Whether it has the learner and the labels that a job wants."""
        learner = not spec.job.learner or spec.job.learner in self.learners
        return learner and all(map(self._has, spec.job.labels))

    def declines(self, job_id: str, now: float) -> Decline | None:
        """Its refusal of a job, if one is in force."""
        found = self.declined.get(job_id)
        return found if found is not None and now < found.until else None

    def fits(self, job: "Job", now: float) -> bool:
        """Whether it can be expected to take work of a job."""
        return self.live(now) and self.offers(job.spec) and self.declines(job.id, now) is None

    def _has(self, label: str) -> bool:
        key, _, value = label.partition("=")
        return key in self.labels and value in ("", self.labels[key])
