"""Order statistics of columns."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedelta_server.aggregate.rules._columns import comparators, mean, middle, sorted_rows
from tests.server.aggregate.rules.applied import Array

FINITE = st.floats(-(2.0**59), 2.0**59, width=32)
TABLES = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=FINITE)


@pytest.mark.parametrize("count", range(1, 13))
def test_the_network_sorts_whatever_consists_of_zeros_and_ones_and_so_everything(count: int) -> None:
    """Knuth, TAOCP 3, 5.3.4, theorem Z (the zero-one principle)."""
    every = np.array(list(product([0.0, 1.0], repeat=count))).T
    np.testing.assert_array_equal(sorted_rows(every.copy()), np.sort(every, axis=0))


def test_the_network_has_as_many_comparators_as_batchers() -> None:
    """OEIS A006282: comparisons in Batcher's parallel sort."""
    known = [0, 1, 3, 5, 9, 12, 16, 19, 26, 31, 37, 41, 48, 53, 59, 63]
    assert [len(comparators(count)) for count in range(1, 17)] == known


@given(values=TABLES)
def test_rows_are_in_order_and_medians_and_means_as_numpy_has_them(values: Array) -> None:
    rows = sorted_rows(values.copy())
    np.testing.assert_array_equal(rows, np.sort(values, axis=0))
    wide = values.astype(np.float64)
    np.testing.assert_array_equal(middle(rows), np.median(wide, axis=0).astype(np.float32))
    np.testing.assert_allclose(mean(list(values)), wide.mean(axis=0).astype(np.float32), rtol=1e-6, atol=1e5)


@given(values=TABLES, cut=st.integers(1, 11))
def test_where_columns_are_cut_changes_no_bit(values: Array, cut: int) -> None:
    whole = mean(sorted_rows(values.copy()))
    parts = [mean(sorted_rows(part.copy())) for part in (values[:, :cut], values[:, cut:]) if part.size]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("count", [63, 64, 65, 130])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_rows_are_sorted_too(count: int, dtype: type) -> None:
    values: Array = np.random.default_rng(count).standard_normal((count, 17)).astype(dtype)
    np.testing.assert_array_equal(sorted_rows(values.copy()), np.sort(values, axis=0))


def test_zeros_have_no_sign_that_would_depend_on_the_processor() -> None:
    for order in ([0.0, -0.0, -0.0], [-0.0, 0.0, -0.0], [-0.0, -0.0, -0.0]):
        rows = sorted_rows(np.array(order, np.float32)[:, None].repeat(9, axis=1))
        assert not np.signbit(rows).any()


def test_means_of_many_rows_do_not_drift() -> None:
    """In float32, three thousand times 0.1 make 300.0015."""
    rows = list(np.full((3000, 2), 0.1, np.float32))
    np.testing.assert_array_equal(mean(rows), np.float32(0.1))
