"""Devices that have no time for all epochs of a round (Li et al. 2020, section 5.2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from benchmarks.science.synthetic import DEVICES


@dataclass(frozen=True, kw_only=True)
class Stragglers:
    """Who straggles in which round: so large a share of all devices, drawn for each round."""

    share: float
    kept: bool
    """They send what they have (FedProx). Otherwise they are late, and do not count (FedAvg)."""
    seed: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """As the job's [train] table says."""
        return cls(share=config["stragglers"], kept=config["keep_stragglers"], seed=config["stragglers_seed"])

    def has(self, round_: int, client: str) -> bool:
        """Whether a device straggles. `client` ends with its number."""
        drawn = np.random.default_rng([self.seed, round_]).permutation(DEVICES)[: round(self.share * DEVICES)]
        return int(client.rpartition("-")[2]) in drawn

    def epochs(self, round_: int, client: str, whole: int) -> int:
        """How many epochs a device trains.

        One whose result will be late whatever it is trains none: that spares the computer what nobody would see.
        """
        if not self.has(round_, client):
            return whole
        number = int(client.rpartition("-")[2])
        return int(np.random.default_rng([self.seed, round_, number]).integers(1, whole)) if self.kept else 0
