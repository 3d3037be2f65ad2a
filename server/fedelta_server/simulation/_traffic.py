"""What would go over the wire: stop rules may count it, and the history shows it."""

from collections import defaultdict, deque
from functools import partial

from fedelta_server.engine import ModelRef, StateRef

MODEL_SLOTS = 2
"""So many models a client keeps: a round evaluates the version that the next one trains from."""

_Held = deque[bytes]


class Traffic:
    """Which files clients have, and so how many bytes each assignment fetches."""

    def __init__(self) -> None:
        self._models = _caches(MODEL_SLOTS)
        self._shared = _caches(1)

    def fetched(self, client: str, model: ModelRef | None, shared: StateRef | None) -> int:
        """The bytes that a client fetches for an assignment; it has them from now on."""
        return _fetched(self._models[client], model) + _fetched(self._shared[client], shared)


def _caches(slots: int) -> defaultdict[str, _Held]:
    """By client: the digests of what it has, least recently used first."""
    return defaultdict(partial(deque, maxlen=slots))


def _fetched(held: _Held, wanted: ModelRef | StateRef | None) -> int:
    if wanted is None:
        return 0
    there = wanted.digest in held
    if there:
        held.remove(wanted.digest)
    held.append(wanted.digest)
    return 0 if there else wanted.length
