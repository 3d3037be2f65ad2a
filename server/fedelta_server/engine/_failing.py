"""Why attempts fail, in words."""

from collections.abc import Sequence

from fedelta._words import plural, times
from fedelta_server.engine._state import Job
from fedelta_server.engine.records import Participation

_MOST_REASONS = 3
_MOST_NAMED = 3


def with_reasons(what: str, parts: Sequence[Participation]) -> str:
    """What failed, with the latest reasons that clients gave, each once."""
    by_reason: dict[str, list[str]] = {}
    for part in parts:
        if part.reason:
            by_reason.setdefault(part.reason, []).append(part.client)
    latest = list(by_reason.items())[-_MOST_REASONS:]
    why = "; ".join(f"{_named(clients)}: {reason}" for reason, clients in latest)
    return f"{what} ({why})" if why else what


def _named(clients: Sequence[str]) -> str:
    """The clients that said the same, or some of them."""
    more = len(clients) - _MOST_NAMED
    return ", ".join(clients[:_MOST_NAMED]) + (f" and {plural(more, 'other')}" if more > 0 else "")


def pause_reason(job: Job, what: str, reason: str) -> str:
    """Why a job is paused after its last attempt at something."""
    often = f" {times(job.failed_attempts)}; the last time" if job.failed_attempts > 1 else ""
    return f"{what} failed{often}: {reason}"
