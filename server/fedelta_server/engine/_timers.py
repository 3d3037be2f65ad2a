"""The times at which the engine wants to be woken."""

import heapq


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

    def drop(self, key: str) -> None:
        """Removes a timer, if there is one."""
        self._due.pop(key, None)

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
