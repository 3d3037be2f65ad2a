"""The rules that stand wrong updates, against published values and plain definitions."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fedelta.parts import Aggregator, Weighted
from fedelta_server.aggregate.rules.coordinatewise import Median, TrimmedMean
from fedelta_server.aggregate.rules.geometric_median import GeometricMedian
from fedelta_server.aggregate.rules.krum import Bulyan, Krum, MultiKrum
from fedelta_server.aggregate.rules.norm_bounded import NormBounded
from tests.server.aggregate.rules.applied import Array, aggregated, rule_of

TOY = [0, 1, 2, 3, 4, 5, 6, 7, 8, 100]
"""REFERENCES, "robust rules on the scalars 0,1,…,8,100"."""

EACH: list[Aggregator] = [
    Median(),
    TrimmedMean(share=0.2),
    Krum(byzantine=1),
    MultiKrum(byzantine=1),
    MultiKrum(byzantine=2, keep=3),
    Bulyan(byzantine=1),
    Bulyan(byzantine=2),
    GeometricMedian(),
    NormBounded(),
]
TRANSLATING = [each for each in EACH if not isinstance(each, NormBounded)]

named = pytest.mark.parametrize("aggregator", EACH, ids=repr)
translating = pytest.mark.parametrize("aggregator", TRANSLATING, ids=repr)
VALUES = st.integers(0, 10**6).map(lambda seed: np.random.default_rng(seed).standard_normal((11, 3)))
"""Eleven updates of which no two have equal distances."""
GRID = arrays(np.float64, (11, 3), elements=st.integers(-6, 6).map(float))
"""Eleven updates with many ties; sums are exact, so that a tie is one however it is computed."""


# Published values


@pytest.mark.parametrize(
    ("aggregator", "expected"),
    [(Median(), 4.5), (TrimmedMean(share=0.1), 4.5), (Krum(byzantine=1), 3), (MultiKrum(byzantine=1, keep=5), 4)],
)
def test_the_toy_values(aggregator: Aggregator, expected: float) -> None:
    np.testing.assert_allclose(aggregated(aggregator, TOY), [expected], rtol=1e-15)


def test_of_equal_scores_of_krum_the_first_wins() -> None:
    """REFERENCES: 3, 4 and 5 tie at 44."""
    rule = rule_of(Krum(byzantine=1), np.array(TOY, float)[:, None])
    assert rule == Weighted(factors=(0, 0, 0, 1, 0, 0, 0, 0, 0, 0))
    turned = rule_of(Krum(byzantine=1), np.array(TOY[::-1], float)[:, None])
    assert turned == Weighted(factors=(0, 0, 0, 0, 1, 0, 0, 0, 0, 0))  # the scalar 5


BREAKDOWN: list[tuple[Callable[[int], Aggregator], int]] = [
    (lambda _: Median(), 4),
    (lambda f: TrimmedMean(share=f / 10), 4),
    (lambda f: Krum(byzantine=f), 3),
    (lambda f: MultiKrum(byzantine=f), 3),
    (lambda f: Bulyan(byzantine=f), 1),
    (lambda _: GeometricMedian(), 4),
]


@pytest.mark.parametrize(("make", "holds_to"), BREAKDOWN)
@pytest.mark.parametrize("last", [True, False])
def test_breakdown_of_ten_clients(make: Callable[[int], Aggregator], holds_to: int, last: bool) -> None:
    """REFERENCES: f of ten clients send 1e6. Each rule holds up to the f that its paper gives."""
    rng = np.random.default_rng(0)
    for f in range(1, holds_to + 1):
        values = rng.normal(1, 0.1, (10, 50))
        values[slice(10 - f, None) if last else slice(f)] = 1e6
        assert make(f).least <= 10
        found = aggregated(make(f), values)
        assert np.abs(found - 1).max() < 0.4, f


def test_where_they_break() -> None:
    """REFERENCES: the mean breaks at f = 1, the median at 5; Krum and Bulyan say themselves that f is too great."""
    values = np.ones((10, 4))
    values[:5] = 1e6
    assert aggregated(Median(), values).min() > 1e5
    assert aggregated(GeometricMedian(), values).min() > 1e5
    values[1:] = 1
    assert values.mean(axis=0).min() > 1e4
    assert [Krum(byzantine=f).least for f in (1, 3, 4)] == [5, 9, 11]
    assert [MultiKrum(byzantine=4).least, MultiKrum(byzantine=1, keep=8).least] == [11, 11]
    assert [Bulyan(byzantine=f).least for f in (1, 2)] == [7, 11]


def test_a_norm_bounded_attacker_moves_the_model_by_its_share_of_the_bound() -> None:
    values = np.full((10, 4), 0.5)  # of norm 1
    values[3] = 1e6
    np.testing.assert_allclose(aggregated(NormBounded(norm=2.0), values), 0.9 * 0.5 + 0.1 * 1.0)
    np.testing.assert_allclose(aggregated(NormBounded(), values), 0.5)


# Plain definitions


def _krum_scores(values: Array, f: int) -> list[float]:
    found = []
    for i, one in enumerate(values):
        others = sorted(float(np.sum((one - other) ** 2)) for j, other in enumerate(values) if j != i)
        found.append(sum(others[: max(len(values) - f - 2, 1)]))
    return found


@settings(max_examples=50)
@given(values=GRID, f=st.integers(0, 4))
def test_krum_and_multi_krum_are_what_the_paper_says(values: Array, f: int) -> None:
    order = np.argsort(_krum_scores(values, f), kind="stable")
    np.testing.assert_array_equal(aggregated(Krum(byzantine=f), values), values[order[0]])
    kept = values[order[: 11 - f - 2]].mean(axis=0)
    np.testing.assert_allclose(aggregated(MultiKrum(byzantine=f), values), kept, atol=1e-12)


@settings(max_examples=50)
@given(values=GRID, f=st.integers(0, 2))
def test_bulyan_is_what_the_paper_says(values: Array, f: int) -> None:
    left = list(range(11))
    chosen: list[int] = []
    while len(chosen) < 11 - 2 * f:
        chosen.append(left.pop(int(np.argmin(_krum_scores(values[left], f)))))
    expected = []
    for column in values[chosen].T:
        closest = np.lexsort((column, np.abs(column - np.median(column))))
        expected.append(column[closest[: 11 - 4 * f]].mean())
    np.testing.assert_allclose(aggregated(Bulyan(byzantine=f), values), expected, atol=1e-12)


@given(values=VALUES, share=st.sampled_from([0.05, 0.1, 0.2, 0.3, 0.45]))
def test_trimmed_mean_and_median_are_what_the_paper_says(values: Array, share: float) -> None:
    k = {0.05: 1, 0.1: 1, 0.2: 2, 0.3: 3, 0.45: 4}[share]
    expected = np.sort(values, axis=0)[k : 11 - k].mean(axis=0)
    np.testing.assert_allclose(aggregated(TrimmedMean(share=share), values), expected, atol=1e-12)
    np.testing.assert_array_equal(aggregated(Median(), values), np.median(values, axis=0))


def test_a_share_is_the_decimal_number_that_the_job_file_says() -> None:
    assert [TrimmedMean(share=0.29).trimmed(n) for n in (100, 10, 3)] == [29, 2, 1]


@given(values=VALUES, examples=st.lists(st.integers(1, 50), min_size=11, max_size=11))
def test_no_point_is_nearer_to_all_than_the_geometric_median(values: Array, examples: list[int]) -> None:
    """The definition: it minimizes the weighted sum of distances; smoothing gives away at most its own size."""

    def cost(point: Array) -> float:
        return float(np.dot(examples, np.linalg.norm(values - point, axis=1)))

    found = aggregated(GeometricMedian(), values, examples=examples)
    rng = np.random.default_rng(0)
    near = found + rng.normal(size=(50, 3)) * rng.choice([1e-3, 1e-1, 10], (50, 1))
    others = [*values, values.mean(axis=0), np.median(values, axis=0), *near]
    assert cost(found) <= min(map(cost, others)) + 1e-3 * sum(examples)


def test_the_geometric_median_of_a_triangle_is_its_fermat_point() -> None:
    """Torricelli: of an equilateral triangle the centre; seen from the Fermat point all sides are under 120 degrees."""
    found = aggregated(GeometricMedian(), [[0.0, 0.0], [4.0, 0.0], [1.0, 2.0]])
    towards = [np.subtract(corner, found) for corner in ([0, 0], [4, 0], [1, 2])]
    unit = [each / np.linalg.norm(each) for each in towards]
    np.testing.assert_allclose([a @ b for a, b in itertools.combinations(unit, 2)], [-0.5] * 3, atol=1e-9)


def test_examples_count_where_the_paper_has_them_and_can_be_left_out() -> None:
    values, lies = np.array([0.0, 0.0, 0.0, 9.0]), [1, 1, 1, 1000]
    assert aggregated(GeometricMedian(), values, examples=lies)[0] == pytest.approx(9)
    assert aggregated(GeometricMedian(weights="uniform"), values, examples=lies)[0] == pytest.approx(0, abs=1e-5)
    bounded: dict[str, Any] = {"norm": 3.0}
    assert aggregated(NormBounded(**bounded), values, examples=lies)[0] == pytest.approx(3000 / 1003)
    assert aggregated(NormBounded(**bounded, weights="uniform"), values, examples=lies)[0] == pytest.approx(0.75)
    for aggregator in (Median(), TrimmedMean(share=0.3), Krum(byzantine=0), MultiKrum(byzantine=0)):
        assert aggregated(aggregator, values, examples=lies)[0] == 0


# What all have in common


@pytest.mark.parametrize("aggregator", [each for each in EACH if not isinstance(each, Bulyan)], ids=repr)
@settings(max_examples=20)
@given(values=VALUES, order=st.permutations(range(11)))
def test_the_order_of_clients_does_not_matter_where_nothing_ties(
    aggregator: Aggregator, values: Array, order: list[int]
) -> None:
    """Bulyan's last choices always tie: they are between updates that are each other's nearest."""
    np.testing.assert_allclose(aggregated(aggregator, values[order]), aggregated(aggregator, values), atol=1e-9)


@translating
@settings(max_examples=20)
@given(values=GRID, by=st.integers(-50, 50))
def test_they_move_with_the_updates(aggregator: Aggregator, values: Array, by: int) -> None:
    moved = aggregated(aggregator, values + by)
    np.testing.assert_allclose(moved, aggregated(aggregator, values) + by, atol=1e-9)


@named
@settings(max_examples=20)
@given(seed=st.integers(0, 1000), block=st.integers(1, 40))
def test_block_by_block_gives_the_same_bits(aggregator: Aggregator, seed: int, block: int) -> None:
    values = np.random.default_rng(seed).standard_normal((11, 40)).astype(np.float32)
    whole = aggregated(aggregator, values)
    cut = aggregated(aggregator, values, block=block)
    if isinstance(rule_of(aggregator, values), Weighted):
        np.testing.assert_allclose(cut, whole, rtol=1e-6)  # adding is the fold's part
    else:
        assert cut.tobytes() == whole.tobytes()


@named
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_that_are_all_zero_stay_so(aggregator: Aggregator, dtype: type) -> None:
    with np.errstate(all="raise"):
        found = aggregated(aggregator, np.zeros((11, 5), dtype))
    np.testing.assert_array_equal(found, np.zeros(5))


@named
def test_equal_updates_become_themselves(aggregator: Aggregator) -> None:
    one = np.linspace(-3, 3, 7, dtype=np.float32)
    np.testing.assert_allclose(aggregated(aggregator, np.tile(one, (11, 1))), one, rtol=1e-6)


@named
def test_as_few_updates_as_they_say_are_enough(aggregator: Aggregator) -> None:
    values = np.random.default_rng(3).standard_normal((aggregator.least, 4))
    assert np.isfinite(aggregated(aggregator, values)).all()
