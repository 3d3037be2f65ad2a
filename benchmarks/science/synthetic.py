"""Synthetic(alpha, beta), the data of FedProx (Li et al. 2020, section 5.1), by the recipe of its authors' repository.

Alpha makes the devices' models differ, beta their inputs; both are used as standard deviations. Drawn anew from numpy's
generator, so the numbers agree with published ones as two draws do, not digit by digit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEVICES, INPUTS, CLASSES = 30, 60, 10
TRAIN_SHARE = 0.9
MOST_EXAMPLES = 10_000
"""Of one device, beyond the 50 that each has: without a bound one device in some draws holds most of the data."""

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One of the published settings."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0
    iid: bool = False


VARIANTS = (
    Variant(name="iid", iid=True),
    Variant(name="0_0"),
    Variant(name="0.5_0.5", alpha=0.5, beta=0.5),
    Variant(name="1_1", alpha=1.0, beta=1.0),
)


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device's examples: inputs of shape (examples, 60) in float32, labels of shape (examples,) from 0 to 9.

    The first nine tenths are to train on, the others to test.
    """

    x: Array
    y: Array

    @property
    def cut(self) -> int:
        """How many there are to train on."""
        return int(TRAIN_SHARE * len(self.y))


def draw(variant: Variant, seed: int) -> list[Device]:
    """All devices of one draw."""
    rng = np.random.default_rng([seed, *variant.name.encode()])
    sizes = np.minimum(rng.lognormal(4, 2, DEVICES), MOST_EXAMPLES).astype(int) + 50
    shared = rng.normal(0, 1, (INPUTS, CLASSES)), rng.normal(0, 1, CLASSES)
    return [_device(variant, rng, int(size), shared) for size in sizes]


def _device(variant: Variant, rng: np.random.Generator, size: int, shared: tuple[Array, Array]) -> Device:
    about_model, about_inputs = rng.normal(0, variant.alpha), rng.normal(0, variant.beta)
    center = np.zeros(INPUTS) if variant.iid else rng.normal(about_inputs, 1, INPUTS)
    own = rng.normal(about_model, 1, (INPUTS, CLASSES)), rng.normal(about_model, 1, CLASSES)
    weights, bias = shared if variant.iid else own
    deviations = np.arange(1, INPUTS + 1) ** -0.6  # of variances j^-1.2
    x = rng.normal(center, deviations, (size, INPUTS))
    return Device(x=x.astype(np.float32), y=np.argmax(x @ weights + bias, axis=1))
