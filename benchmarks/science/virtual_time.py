"""Asynchronous against synchronous rounds on a clock of their own, where clients are slow by chance.

As in Nguyen et al. 2022 (section 5): each training takes |N(0, 1)| units of time, 50 of 100 clients train at any time,
and what counts is the time until the model is right on 93 % of the test data.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.science.learners import DigitsMlp
from fedelta.demo.shards import write_shards
from fedelta_server.simulation import HalfNormal, simulate

CLIENTS, CONCURRENCY, TARGET = 100, 50, 0.93

ASYNCHRONOUS = "asynchronous (FedBuff), buffer of 10"

PLANS: Mapping[str, Mapping[str, Any]] = {
    "synchronous": {"clients": CONCURRENCY},
    "synchronous, 1.3 times as many asked": {"clients": 38, "over_select": 1.3},
    ASYNCHRONOUS: {"clients": CONCURRENCY, "buffer": 10},
}


@dataclass(frozen=True, kw_only=True)
class Race:
    """A plan and a seed, of data, cohorts and delays alike."""

    plan: str
    seed: int


@dataclass(frozen=True, kw_only=True)
class Finish:
    """When the target was reached, in units of the delays' scale, after how many versions and trainings."""

    race: Race
    time: float
    versions: int
    trainings: int
    curve: tuple[tuple[float, float], ...]
    """Time and accuracy of every version."""


def races(seeds: range) -> Iterator[Race]:
    """All of them."""
    for plan in PLANS:
        for seed in seeds:
            yield Race(plan=plan, seed=seed)


def compute(race: Race) -> Finish:
    """Simulates a race until the target is reached. Raises `RuntimeError` where it is not."""
    with tempfile.TemporaryDirectory() as folder:
        shards, pooled = write_shards(Path(folder), CLIENTS, seed=race.seed), Path(folder) / "pooled"
        history = simulate(_job(race), DigitsMlp, data=shards, evaluator_data=pooled, delays=HalfNormal(1.0))
    made = {version.number: version.at for version in history.versions}
    # Evaluations are over when their clients have time for them: not always in the order of versions.
    found = {each.version: each.central["accuracy"] for each in history.evaluations}
    versions = next((version for version in sorted(found) if found[version] >= TARGET), None)
    if versions is None:
        raise RuntimeError(f"{race}: {TARGET} was not reached: {history.reason}")
    return Finish(
        race=race,
        time=made[versions],
        versions=versions,
        trainings=sum(len(each.clients) for each in history.rounds[:versions]),
        curve=tuple((made[version], found[version]) for version in sorted(found) if version <= versions),
    )


def _job(race: Race) -> dict[str, Any]:
    return {
        "job": {"name": "race", "seed": race.seed},
        "model": {"init": "first-client"},
        "rounds": {"max": 1000, **PLANS[race.plan]},
        # One client beside the central evaluation, which is on all of the test data.
        "evaluate": {"fraction": 0.01},
        "stop": [{"name": "target", "metric": "central/accuracy", "at_least": TARGET}],
        "train": {"epochs": 5, "batch_size": 16, "lr": 0.1},
    }
