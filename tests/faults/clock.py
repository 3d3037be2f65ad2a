"""A wall clock that jumps, for what fedelta reads of it in one process. The monotonic clock goes on as it does.

gRPC keeps the true one: its core reads the time by itself, and the two must not differ.
"""

import datetime
import sys
import threading
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.faults.orders import Points
from tests.faults.patching import put

JUMPS = {"a year ahead": 365 * 86400.0, "a day back": -86400.0}
"""Seconds, by act."""

_LOOK_SECONDS = 0.05


class Clock:
    """Stands in for the wall clock of this process."""

    def __init__(self, points: Points) -> None:
        self._points = points
        self._ahead = 0.0

    def install(self) -> None:
        """From now on fedelta's modules read it, those that are loaded; it looks now and then whether it is to jump."""
        module = SimpleNamespace(**{**vars(time), "time": self.time})
        kind = _jumping(self)
        for each in _modules():
            if getattr(each, "time", None) is time:
                put(each, "time", module)
            if getattr(each, "datetime", None) is datetime.datetime:
                put(each, "datetime", kind)
        threading.Thread(target=self._listen, name="clock", daemon=True).start()

    def time(self) -> float:
        """Seconds since 1970, as far as this clock knows."""
        return time.time() + self._ahead

    def _listen(self) -> None:
        pause = threading.Event()
        while not pause.wait(_LOOK_SECONDS):
            act = self._points.reach("clock")
            if act is not None:
                self._ahead += JUMPS[act]


def _modules() -> Iterator[ModuleType]:
    return (module for name, module in sorted(sys.modules.items()) if name.startswith("fedelta"))


def _jumping(clock: Clock) -> type[datetime.datetime]:
    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.fromtimestamp(clock.time(), tz)

    return Jumping
