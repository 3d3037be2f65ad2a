"""The parts of [local] that come with fedelta."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta.local._site import LocalResult, Site


@dataclass(frozen=True, kw_only=True)
class Plain:
    """The learner's own training and nothing else, as in FedAvg."""

    shared: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[frozenset[str]] = frozenset()
    keeps_state: ClassVar[bool] = False

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        return LocalResult(result=site.train())
