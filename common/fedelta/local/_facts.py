"""What a plan wants to know of an update beyond the learner's metrics."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from fedelta.errors import LearnerError
from fedelta.local._common import common_loop
from fedelta.local._plan import KNOWN_FACTS
from fedelta.parts import LocalTraining, Site


@contextmanager
def telling(wanted: Collection[str], part: LocalTraining, site: Site) -> Iterator[dict[str, float]]:
    """Within it the part trains; afterwards the dictionary has the facts that are wanted.

    Raises `LearnerError` where one cannot be told. The model is as it was, but in evaluation mode.
    """
    unknown = sorted(set(wanted) - KNOWN_FACTS)
    if unknown:
        raise LearnerError(f"this client cannot tell {unknown[0]!r} of an update; is fedelta too old here?")
    told = {"loss": _loss(site)} if "loss" in wanted else {}
    if "steps" not in wanted:
        yield told
        return
    from fedelta.local._counting import counted

    # A part calls the weight of its proximal term `mu`: FedProx, and FedNova where it has one.
    with counted(site, getattr(part, "mu", 0.0)) as count:
        yield told
    told["steps"] = count.value


def _loss(site: Site) -> float:
    learner = common_loop(site, 'the fact "loss" (mean loss on the training data before training)')
    return learner.mean_loss(site.model, site.task)
