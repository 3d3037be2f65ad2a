"""The coordinator's half of FedDyn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from fedelta.config import JobSpec
from fedelta.errors import ConfigError
from fedelta.parts import Block, Step, build


@dataclass(frozen=True, kw_only=True)
class FedDyn:
    """Dynamic regularization (Acar et al. 2021, algorithm 1): the model moves by the plain mean delta, less h / alpha.

    h sums up what all clients were moved by so far, over the number of clients that could have been drawn:
    h = h - alpha * clients / population * delta. It belongs to local training 'feddyn' with the same alpha.
    """

    alpha: Annotated[float, Meta(gt=0)] = 0.01
    """How strongly clients are held to the model; the same as in [local]."""

    state: ClassVar[tuple[str, ...]] = ("h",)
    synchronous: ClassVar[bool] = True
    requires: ClassVar[Mapping[str, tuple[str, ...]]] = {"local": ("feddyn",), "aggregator": ("uniform",)}

    def check(self, job: JobSpec) -> None:
        """Raises `ConfigError` where the clients' half has another alpha."""
        alpha = getattr(build(job.local), "alpha", None)
        if alpha != self.alpha:
            raise ConfigError(
                f"server_optimizer.alpha = {self.alpha} and local.alpha = {alpha} must be the same; set both"
            )

    def initial(self, name: str) -> float:  # noqa: ARG002
        """See `ServerOptimizer`."""
        return 0.0

    def apply(self, model: Block, delta: Block, state: Mapping[str, Block], step: Step) -> None:
        """See `ServerOptimizer`."""
        h = state["h"]
        np.subtract(h, delta * (self.alpha * step.clients / step.population), out=h)
        np.add(model, delta, out=model)
        np.subtract(model, np.divide(h, self.alpha, out=delta), out=model)
