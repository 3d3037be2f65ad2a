"""The times at which the engine wants to be woken."""

import heapq

_MOST_STALE = 1000
"""So many entries of timers that were moved or dropped are not worth a thought."""


class Timers:
    """Pending times by key. Moving one later costs nothing until it comes up: renewals are frequent, expiries rare."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def set(self, key: str, due: float) -> None:
        """Sets or moves a timer."""
        known = self._due.get(key)
        self._due[key] = due
        if known is None or due < known:
            heapq.heappush(self._heap, (due, key))
        if len(self._heap) > 2 * len(self._due) + _MOST_STALE:
            self._tidy()

    def _tidy(self) -> None:
        """Forgets what came of timers that were moved or dropped: where none is due for long, nothing else does."""
        self._heap = [(due, key) for key, due in self._due.items()]
        heapq.heapify(self._heap)

    def drop(self, key: str) -> None:
        """Removes a timer, if there is one."""
        self._due.pop(key, None)

    @property
    def entries(self) -> int:
        """How much it remembers: bounded by the timers that there are."""
        return len(self._heap)

    def next(self) -> float | None:
        """When the earliest timer may be due: never late, now and then early."""
        return self._heap[0][0] if self._heap else None

    def expired(self, now: float) -> list[str]:
        """Takes out the timers that are due, earliest first."""
        found = []
        while self._heap and self._heap[0][0] <= now:
            key = heapq.heappop(self._heap)[1]
            due = self._due.get(key)
            if due is not None and due > now:
                heapq.heappush(self._heap, (due, key))
            elif due is not None:
                del self._due[key]
                found.append(key)
        return found
