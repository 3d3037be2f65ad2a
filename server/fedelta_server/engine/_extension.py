"""Which jobs can be given another number of rounds."""

from fedelta._words import plural
from fedelta.config import MAX_COUNT
from fedelta.errors import ConfigError, WrongStateError
from fedelta_server.engine._state import Job
from fedelta_server.engine.words import JobState


def check_extension(job: Job, rounds_max: int) -> None:
    """Raises `WrongStateError` where the job cannot go on, `ConfigError` where the number is none for it."""
    if job.state in (JobState.STOPPED, JobState.FAILED):
        raise WrongStateError(
            f"job {job.id!r} is {job.state} and cannot go on; "
            f'submit another one that starts from its model: init = "job:{job.id}@latest"'
        )
    if job.buffer is not None and rounds_max * job.buffer.size < job.next_number - 1:
        raise ConfigError(
            f"job {job.id!r} cannot be given {plural(rounds_max, 'round')}: it accepted {job.next_number - 1} updates, "
            f"{job.buffer.size} for each; name a greater number"
        )
    if not job.rounds_done < rounds_max <= MAX_COUNT:
        raise ConfigError(
            f"job {job.id!r} cannot be given {rounds_max} rounds: it has run {job.rounds_done}; "
            f"name a number from {job.rounds_done + 1} to {MAX_COUNT}"
        )
