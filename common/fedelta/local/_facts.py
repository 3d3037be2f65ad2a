"""What a plan wants to know of an update beyond the learner's metrics."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fedelta.local._site import Site
from fedelta.parts import LocalTraining


@contextmanager
def telling(wanted: Collection[str], part: LocalTraining, site: Site) -> Iterator[dict[str, float]]:
    """Within it the part trains; afterwards the dictionary has the facts that are wanted.

    Raises `LearnerError` where one cannot be told. The model and the generators of random numbers may be in another
    state within it than before.
    """
    told: dict[str, float] = {}
    yield told
