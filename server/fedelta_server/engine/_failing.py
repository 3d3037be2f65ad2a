"""Why attempts fail, in words."""

from collections.abc import Sequence

from fedelta._words import times
from fedelta_server.engine._state import Job
from fedelta_server.engine.records import Participation

_MOST_NAMED = 3


def with_reasons(what: str, parts: Sequence[Participation]) -> str:
    """What failed, with what the last clients said."""
    why = "; ".join(f"{part.client}: {part.reason}" for part in parts[-_MOST_NAMED:] if part.reason)
    return f"{what} ({why})" if why else what


def pause_reason(job: Job, what: str, reason: str) -> str:
    """Why a job is paused after its last attempt at something."""
    often = f" {times(job.failed_attempts)}; the last time" if job.failed_attempts > 1 else ""
    return f"{what} failed{often}: {reason}"
