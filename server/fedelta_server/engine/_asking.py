"""Asking the parts of a plan. They may be a third party's: whatever they do, the engine and all other jobs go on."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from fedelta.config import Part
from fedelta_server.engine._state import Job


class PartFailedError(Exception):
    """A part of a job's plan did not answer as it must."""

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(reason)
        self.job = job
        self.reason = reason


@contextmanager
def asking(job: Job, part: Part) -> Iterator[None]:
    """Whatever is raised within becomes a `PartFailedError` that names the part of the job."""
    try:
        yield
    except Exception as error:  # a third party's code
        raise PartFailedError(job, f"{part.SLOT} {part.name!r} failed: {error!r}") from error


def check_drawn(names: Sequence[str], ready: Collection[str]) -> None:
    """Raises `ValueError` where these are not some of the clients that are ready, each once."""
    if not names:
        raise ValueError("it drew nobody")
    unknown = sorted(set(names) - set(ready))
    if unknown:
        raise ValueError(f"it drew {unknown[0]!r}, who was no candidate")
    if len(set(names)) < len(names):
        raise ValueError("it drew a client twice")
