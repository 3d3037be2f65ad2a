"""When a job is done before its last round, and what it waits for before that is decided."""

from fedelta_server.engine._asking import asking
from fedelta_server.engine._state import Job


def stop_reason(job: Job) -> str | None:
    """Why a job is done, by the first of its stop rules that holds. None: it goes on.

    It says the same until another round is closed. To be asked when the job has no open round and
    `waits_for_evaluation` says no.
    """
    if not job.past.rounds:
        return None
    history = job.past.history(job.spec.evaluate)
    for part, rule in zip(job.spec.stop, job.plan.stop, strict=True):
        with asking(job, part):
            reason = rule.reason(history)
        if reason is not None:
            return reason
    return None


def waits_for_evaluation(job: Job) -> bool:
    """Whether what is decided before the next round rests on an evaluation that is still open."""
    return job.plan.reads_metrics and any(
        version <= job.past.reach and version not in job.past.evaluations for version in job.evaluations
    )
