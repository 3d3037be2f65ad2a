"""Wrong folds, which the suite must find out."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fedelta_server.aggregate import WeightedUpdate

Updates = Sequence[WeightedUpdate]


def dropped(updates: Updates) -> Updates:
    """Without the last one."""
    return updates[:-1]


def doubled(updates: Updates) -> Updates:
    """With the last one twice."""
    return [*updates, replace(updates[-1], client=f"{updates[-1].client} again")]


def reordered(updates: Updates) -> Updates:
    """The same sum with its terms in another order."""
    return [updates[0], *updates[:0:-1]]


def swapped(updates: Updates) -> Updates:
    """The last two with the weights of each other."""
    *others, one, other = updates
    return [*others, replace(one, weight=other.weight), replace(other, weight=one.weight)]


WRONG: dict[str, Callable[[Updates], Updates]] = {
    each.__name__: each for each in (dropped, doubled, reordered, swapped)
}
"""By name, which is also an act at the point "before fold"."""
