"""Gradient descent on the server, with momentum where that is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta

from fedelta.parts import Block, Step
from fedelta_server.aggregate.optimizers._rate import Scheduled


@dataclass(frozen=True, kw_only=True)
class Sgd(Scheduled):
    """model + lr * delta; with lr = 1 and no momentum the model becomes the clients' average.

    With momentum: FedAvgM (Hsu et al. 2019). The momentum buffer is momentum * buffer + delta, and the model moves by
    lr * buffer.
    """

    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    """How much of the buffer stays from round to round; 0: there is no buffer."""
    nesterov: bool = False
    """Moves by lr * (delta + momentum * buffer) instead (Sutskever et al. 2013)."""

    @property
    def state(self) -> tuple[str, ...]:
        """See `ServerOptimizer`."""
        return ("momentum",) if self.momentum else ()

    def initial(self, name: str) -> float:  # noqa: ARG002
        """See `ServerOptimizer`."""
        return 0.0

    def apply(self, model: Block, delta: Block, state: Mapping[str, Block], step: Step) -> None:
        """See `ServerOptimizer`."""
        if self.momentum:
            self._gather(delta, state["momentum"])
        rate = self.rate(step)
        if rate != 1.0:
            np.multiply(delta, rate, out=delta)
        np.add(model, delta, out=model)

    def _gather(self, delta: Block, buffer: Block) -> None:
        """Makes `delta` what the momentum says."""
        np.multiply(buffer, self.momentum, out=buffer)
        np.add(buffer, delta, out=buffer)
        if self.nesterov:
            np.add(delta, buffer * self.momentum, out=delta)
        else:
            np.copyto(delta, buffer)
