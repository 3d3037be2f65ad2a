"""How much each update counts before anything is known of its values."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedelta.parts import Updates

Weights = Literal["examples", "uniform"]
"""By the number of examples that each client says it trained on, or all alike."""


def shares(updates: Updates, weights: Weights) -> NDArray[np.float64]:
    """Positive numbers whose sum is 1, one for each update; zeros where no update has examples."""
    counts = updates.examples if weights == "examples" else (1,) * len(updates)
    total = sum(counts) or 1
    return np.array([count / total for count in counts], np.float64)
