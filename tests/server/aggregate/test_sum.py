"""Aggregator "sum": every client's delta counts once, whatever its weight."""

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedelta.config import AggregatorPart
from fedelta.parts import Aggregator, build
from fedelta_server.aggregate import WeightedUpdate, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean, Sum
from tests.server.aggregate.tensor_files import Array, read, write_model, write_update

Rows = list[list[float]]

FINITE = st.floats(-1e12, 1e12, allow_nan=False)
CLIENTS = st.integers(1, 6).flatmap(
    lambda width: st.lists(st.lists(FINITE, min_size=width, max_size=width), min_size=1, max_size=9)
)


def folded(rows: Rows, dtype: str, weights: list[int], aggregator: Aggregator, **options: Any) -> Array:
    """A model of zeros and these deltas, one a client, made into one."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        schema = write_model(root / "base", {"t": np.zeros(len(rows[0]), dtype)})
        updates = [
            WeightedUpdate(f"{k:02}", write_update(root / f"{k}", schema, {"t": np.array(row, dtype)}), weight)
            for k, (row, weight) in enumerate(zip(rows, weights, strict=True))
        ]
        fold(root / "base", updates, root / "out", aggregator, Sgd(), **options)
        return read(root / "out", schema)["t"].copy()


def test_a_job_file_names_it() -> None:
    assert build(AggregatorPart("sum")) == Sum()


@settings(max_examples=60, deadline=None)
@given(rows=CLIENTS, block=st.integers(1, 7))
def test_it_is_the_sum_of_the_columns(rows: Rows, block: int) -> None:
    found = folded(rows, "f8", [1] * len(rows), Sum(), block=block)
    for value, column in zip(found, zip(*rows, strict=True), strict=True):
        # Each addition rounds once, relative to what has been added so far.
        assert abs(value - math.fsum(column)) <= len(rows) * 2**-52 * math.fsum(map(abs, column))


@settings(max_examples=60, deadline=None)
@given(counts=st.lists(st.integers(0, 2**49), min_size=1, max_size=15), data=st.data())
def test_counts_are_exact_and_weights_do_not_matter(counts: list[int], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(1, 10**9), min_size=len(counts), max_size=len(counts)))
    rows = [[float(count)] for count in counts]
    (found,) = folded(rows, "f8", weights, Sum())
    assert int(found) == sum(counts)


def test_float32_deltas_are_added_in_float64() -> None:
    # In float32 the ones would be lost one by one: 2^24 + 1 = 2^24.
    rows = [[2.0**24], *[[1.0]] * 8]
    assert folded(rows, "f4", [1] * 9, Sum()) == 2**24 + 8


def test_the_mean_is_another_rule() -> None:
    """REFERENCES: of the scalars 0, 1, ..., 8, 100 the mean is 13.6, so the sum is 136."""
    rows = [[float(value)] for value in (*range(9), 100)]
    weights = [1] * 10
    assert folded(rows, "f8", weights, Sum()) == 136
    assert folded(rows, "f8", weights, Mean()) == pytest.approx(13.6)
