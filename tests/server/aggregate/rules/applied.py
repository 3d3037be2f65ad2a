"""Aggregators applied to arrays, by nothing but their protocol and plain numpy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedelta.parts import Aggregator, Coordinatewise, Measure, Measured, Rule, Updates, Weighted

Array = NDArray[Any]


def updates_of(
    count: int, examples: Sequence[int] | None = None, facts: Sequence[Mapping[str, float]] | None = None
) -> Updates:
    """`count` updates, of equal weight and without facts unless they are given."""
    return Updates(
        clients=tuple(f"site-{k:03}" for k in range(count)),
        examples=tuple(examples or [10] * count),
        staleness=(0,) * count,
        facts=tuple(facts or [{}] * count),
    )


def measured(values: Array, wanted: frozenset[Measure]) -> Measured:
    """What the definitions say, pair by pair."""
    wide = values.astype(np.float64)
    return Measured(
        norms=np.array([np.linalg.norm(row) for row in wide]) if Measure.NORMS in wanted else None,
        distances=np.array([[np.sum((a - b) ** 2) for b in wide] for a in wide])
        if Measure.DISTANCES in wanted
        else None,
    )


def rule_of(aggregator: Aggregator, values: Array, **known: Any) -> Rule:
    """The rule for updates of shape (updates, elements)."""
    assert len(values) >= aggregator.least
    return aggregator.rule(updates_of(len(values), **known), measured(values, aggregator.measures))


def aggregated(aggregator: Aggregator, values: ArrayLike, *, block: int | None = None, **known: Any) -> Array:
    """What the updates (updates, elements) become; of scalars (updates,) an array of one element.

    `block`: elements at a time.
    """
    array = np.asarray(values, None if isinstance(values, np.ndarray) else np.float64)
    array = array.reshape(len(array), -1)
    rule = rule_of(aggregator, array, **known)
    length = block or array.shape[1]
    blocks = [array[:, start : start + length] for start in range(0, array.shape[1], length)]
    return np.concatenate([_applied(rule, np.ascontiguousarray(each)) for each in blocks])


def _applied(rule: Rule, values: Array) -> Array:
    if isinstance(rule, Weighted):
        assert len(rule.factors) == len(values)
        factors = np.array(rule.factors)[:, None]
        found: Array = (factors * values.astype(np.float64)).sum(axis=0).astype(values.dtype)
        return found
    assert isinstance(rule, Coordinatewise)
    assert list(rule.chosen) == sorted(set(rule.chosen))
    got = rule.function(values[list(rule.chosen)].copy())
    assert got.shape == values.shape[1:]
    assert got.dtype == values.dtype
    return got
