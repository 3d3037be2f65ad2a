"""Where the clients' work is done: in this process, or in several."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from fedelta_server.simulation._benches import Benches, computing_threads
from fedelta_server.simulation._processes import Processes
from fedelta_server.simulation._work import Answer, Setting, Work


class Pool(Protocol):
    """Does assignments. The answers depend on nothing but the work."""

    def begin(self, work: Work) -> None:
        """Lets the work be begun."""
        ...

    def drop(self, work: Work) -> None:
        """Nobody will ask for the result."""
        ...

    def result(self, work: Work) -> Answer:
        """The result of work that was begun; waits for it. Raises `FedeltaError` where the simulation cannot go on."""
        ...


class Here:
    """Does the work in this process, when its result is asked for: what is dropped costs nothing."""

    def __init__(self, setting: Setting) -> None:
        self._benches = Benches(setting)

    def begin(self, work: Work) -> None:
        """See `Pool`."""

    def drop(self, work: Work) -> None:
        """See `Pool`."""

    def result(self, work: Work) -> Answer:
        """See `Pool`."""
        return self._benches.do(work)


@contextmanager
def pool_of(setting: Setting, workers: int) -> Iterator[Pool]:
    """A pool of so many processes, ended at the end; with one worker it is this process."""
    with computing_threads(setting.threads):
        if workers == 1:
            yield Here(setting)
            return
        with Processes(setting, workers) as pool:
            yield pool
