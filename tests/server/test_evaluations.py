"""What is told of evaluations: averages, and how the clients' values are spread."""

import random

import numpy as np
import pytest

from fedelta.v1 import admin_pb2 as pb
from fedelta_server.engine import records
from fedelta_server.engine.words import Outcome, PhaseKind
from fedelta_server.evaluations import Closed, evaluations, measured, spread, spreads
from fedelta_server.rpc._convert import history


def part(client: str, outcome: Outcome = Outcome.ACCEPTED, **given: object) -> records.Participation:
    found = {"phase": PhaseKind.EVALUATE, "examples": 10, **given}
    return records.Participation(client=client, outcome=outcome, **found)  # type: ignore[arg-type]


def evaluated(version: int, *, central: dict[str, float] | None = None, **metrics: float) -> records.EvaluationClosed:
    parts = [part("a", metrics=metrics), part("central", metrics=central or {}, central=True)]
    return records.EvaluationClosed(
        job="digits-1", version=version, attempt=1, seconds=2.0, clients=parts, metrics=metrics, central=central or {}
    )


def closed(number: int, **metrics: float) -> records.RoundClosed:
    """A round. With metrics: as it was written before there was `EvaluationClosed`."""
    train = part("a", phase=PhaseKind.TRAIN)
    return records.RoundClosed(
        job="digits-1",
        number=number,
        attempts=1,
        seconds=1.0,
        bytes_up=0,
        bytes_down=0,
        clients=[train, part("a", metrics=metrics)] if metrics else [train],
        metrics=metrics,
        train_metrics={"loss": 0.5},
        digest=bytes(32),
        norm=0.25,
    )


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 20, 101])
def test_a_spread_is_what_numpy_says(count: int) -> None:
    """The nearest rank is numpy's `inverted_cdf`: definition 1 of Hyndman and Fan (1996), "Sample quantiles"."""
    drawn = random.Random(count)
    values = [drawn.uniform(-1, 1) for _ in range(count)]
    found = spread(values)
    assert (found.min, found.max) == (np.min(values), np.max(values))
    assert found.median == pytest.approx(np.median(values), rel=1e-15)
    assert found.p90 == np.percentile(values, 90, method="inverted_cdf")


def test_each_client_that_reported_a_metric_counts_once_in_its_spread() -> None:
    parts = [
        part("a", metrics={"accuracy": 0.5, "recall/3": 0.25}, examples=1),
        part("b", metrics={"accuracy": 1.0}, examples=1000),
        part("c", Outcome.LATE, metrics={"accuracy": 0.0}),
        part("central", metrics={"accuracy": 0.0}, central=True),
    ]
    found = spreads(parts)
    assert list(found) == ["accuracy", "recall/3"]
    assert (found["accuracy"].min, found["accuracy"].median, found["accuracy"].max) == (0.5, 0.75, 1.0)
    assert found["recall/3"].median == 0.25


def test_a_later_evaluation_of_a_version_takes_the_place_of_the_earlier_one() -> None:
    told = [evaluated(2, accuracy=0.5), evaluated(1, accuracy=0.25), evaluated(2, accuracy=0.75)]
    assert {version: each.metrics for version, each in evaluations(told).items()} == {
        1: {"accuracy": 0.25},
        2: {"accuracy": 0.75},
    }


def test_central_metrics_have_names_of_their_own() -> None:
    told = [evaluated(1, accuracy=0.5, central={"accuracy": 0.75}), evaluated(2, accuracy=0.5)]
    assert measured(told) == {1: {"accuracy": 0.5, "central/accuracy": 0.75}, 2: {"accuracy": 0.5}}
    assert list(measured(told, without=(1,))) == [2]


def test_a_jobs_history_has_each_rounds_metrics_whenever_they_came() -> None:
    """Round 1 is of a journal that was written before evaluations overlapped, 3 is not evaluated yet."""
    told: list[Closed] = [closed(1, accuracy=0.5), closed(2), closed(3)]
    told.append(evaluated(2, accuracy=0.75, central={"accuracy": 0.7}))
    message = pb.Job()
    history(message, told)
    assert [(each.number, dict(each.metrics)) for each in message.rounds] == [
        (1, {"accuracy": 0.5}),
        (2, {"accuracy": 0.75}),
        (3, {}),
    ]
    assert {each.update_norm for each in message.rounds} == {0.25}
    first, second = message.evaluations
    assert (first.version, dict(first.metrics), first.spread["accuracy"].p90) == (1, {"accuracy": 0.5}, 0.5)
    assert [each.client for each in first.clients] == ["a"]
    assert (second.version, dict(second.central), second.seconds) == (2, {"accuracy": 0.7}, 2.0)
    assert second.spread["accuracy"] == pb.Spread(min=0.75, median=0.75, p90=0.75, max=0.75)
    assert [(each.client, each.central) for each in second.clients] == [("a", False), ("central", True)]
