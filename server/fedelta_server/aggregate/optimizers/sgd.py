"""Gradient descent on the server, with momentum where that is wanted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from fedelta.parts import Block, Step


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """model + lr * delta; with lr = 1 the model becomes the clients' average."""

    state: ClassVar[tuple[str, ...]] = ()

    lr: Annotated[float, Meta(gt=0)] = 1.0

    def initial(self, name: str) -> float:  # noqa: ARG002
        """See `ServerOptimizer`."""
        return 0.0

    def apply(self, model: Block, delta: Block, state: Mapping[str, Block], step: Step) -> None:  # noqa: ARG002
        """See `ServerOptimizer`."""
        if self.lr != 1.0:
            np.multiply(delta, self.lr, out=delta)
        np.add(model, delta, out=model)
