"""What is decided about a job between two rounds: whether it goes on, waits for metrics, or is done."""

from fedelta.errors import ConfigError
from fedelta_server.engine._state import Job
from fedelta_server.engine._stopping import stop_reason, waits_for_evaluation


def judge(job: Job) -> None:
    """Finds out whether a job waits for metrics, and asks its stop rules once about each round that was closed.

    What they say is not recorded: from the same records they say the same again.
    """
    between = job.runnable and job.round is None
    job.awaits_metrics = between and not job.complete and waits_for_evaluation(job)
    if job.awaits_metrics:
        job.standing = None
    elif between and max(job.judged, job.excused) < job.rounds_done < job.rounds_max:
        job.judged, job.verdict = job.rounds_done, stop_reason(job) or ""


def unusable(job: Job) -> str:
    """Why the plan of a job cannot be made any more; empty where it can: a part's package may be gone."""
    try:
        job.plan  # noqa: B018  # it is made here, if it was not
    except ConfigError as error:
        return error.message
    return ""
