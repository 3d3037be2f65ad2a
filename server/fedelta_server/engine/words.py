"""The enumerations of the engine. Their values are what the journal and `--json` show."""

from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether no further round will be opened, unless a finished job is extended."""
        return self in (JobState.FINISHED, JobState.STOPPED, JobState.FAILED)


class PhaseKind(StrEnum):
    """What the clients of a phase do."""

    INITIALIZE = "initialize"
    TRAIN = "train"
    EVALUATE = "evaluate"


class Outcome(StrEnum):
    """How an assignment ended."""

    ACCEPTED = "accepted"
    FAILED = "failed"
    LOST = "lost"
    LATE = "late"
    CANCELLED = "cancelled"
    RETURNED = "returned"
    REJECTED = "rejected"
    DECLINED = "declined"
    RELEASED = "released"
