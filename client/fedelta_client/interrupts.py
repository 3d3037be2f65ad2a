"""Stopping learner code that does not cooperate."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop(BaseException):
    """Raised in learner code when its work is no longer wanted. Not an `Exception`: learners catch those."""


class Interrupts:
    """Turns SIGUSR1 into `Stop` while learner code runs. At any other time the signal came too late: nothing happens.

    To be made and used in the main thread, where Python runs signal handlers.
    """

    def __init__(self) -> None:
        self._allowed = False
        self._missed = False
        signal.signal(signal.SIGUSR1, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._missed = True
        self._deliver()

    def _deliver(self) -> None:
        if self._allowed and self._missed:
            # Once only: what the learner does to clean up is not interrupted again.
            self._allowed = False
            raise Stop

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Learner code runs within. `Stop` must be caught outside, since it may come at the very end."""
        self._missed = False
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within learner code: no `Stop` here, where it would tear a message in two, but right after."""
        before, self._allowed = self._allowed, False
        try:
            yield
        finally:
            self._allowed = before
        self._deliver()
