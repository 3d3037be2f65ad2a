"""What the fold measures of all updates before it asks an aggregator for its rule."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from fedelta.errors import NotFiniteError
from fedelta.parts import Coordinatewise, Measure, Measured, Needs, Rule, Updates, Weighted
from fedelta.tensors import Schema
from fedelta_server.aggregate import WeightedUpdate, _threads, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean, Uniform
from tests.server.aggregate.tensor_files import Array, read, write_model, write_update


@dataclass(frozen=True)
class Curious:
    """An aggregator that wants to know everything, and then says what it was made with."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset(Measure)
    facts: ClassVar[frozenset[str]] = frozenset({"loss"})
    least: int = 1
    answer: Rule | None = None
    heard: list[tuple[Updates, Measured]] = field(default_factory=list)

    def rule(self, updates: Updates, measured: Measured) -> Rule:
        self.heard.append((updates, measured))
        return self.answer or Weighted(factors=(0.0,) * len(updates))


def _model(root: Path, elements: int) -> Schema:
    """A model with float tensors of all widths, the first of them of so many elements."""
    tensors = {
        "big": np.zeros(elements, "f4"),
        "double": np.zeros(5),
        "half": np.zeros(7, "f2"),
        "ids": np.zeros(3, "i8"),
    }
    return write_model(root / "base", tensors)


def _rows(schema: Schema, scales: list[float]) -> list[dict[str, Array]]:
    rng = np.random.default_rng(9)
    return [
        {
            spec.name: (scale * rng.standard_normal(spec.shape)).astype(spec.dtype.storage)
            for spec in schema.update.tensors
        }
        for scale in scales
    ]


def _updates(root: Path, schema: Schema, rows: list[dict[str, Array]], discount: float = 1.0) -> list[WeightedUpdate]:
    return [
        WeightedUpdate(f"c{k}", write_update(root / f"{k}.update", schema, row), k + 1, discount=discount)
        for k, row in enumerate(rows)
    ]


def _flat(row: dict[str, Array]) -> Array:
    return np.concatenate([row[name].astype("f8").ravel() for name in sorted(row)])


def _measured(root: Path, updates: list[WeightedUpdate], block: int = 1 << 18) -> tuple[Array, Array]:
    curious = Curious()
    fold(root / "base", updates, root / "out", curious, Sgd(), block=block)
    ((_, found),) = curious.heard
    assert found.norms is not None
    assert found.distances is not None
    return found.norms, found.distances


@pytest.mark.parametrize("attackers", [[], [1e6, 1e6], [1e18, 1.0, 1e6]])
def test_norms_and_distances_are_those_of_exact_differences(tmp_path: Path, attackers: list[float]) -> None:
    """Attackers of any size do not blur how far honest updates are from each other."""
    schema = _model(tmp_path, 20_011)
    rows = _rows(schema, [1.0, *attackers, 1.0, 1.0, 1e-3])
    norms, distances = _measured(tmp_path, _updates(tmp_path, schema, rows))
    flat = [_flat(row) for row in rows]
    np.testing.assert_allclose(norms, [np.linalg.norm(row) for row in flat], rtol=1e-13)
    exact = [[float(np.square(one - other).sum()) for other in flat] for one in flat]
    np.testing.assert_allclose(distances, exact, rtol=1e-12)
    assert (distances.diagonal() == 0).all()
    assert (distances == distances.T).all()


def test_equal_attackers_are_at_distance_zero(tmp_path: Path) -> None:
    schema = _model(tmp_path, 5000)
    row, other = _rows(schema, [1e17, 1.0])
    _, distances = _measured(tmp_path, _updates(tmp_path, schema, [row, other, row]))
    assert distances[0, 2] == 0
    assert distances[0, 1] == distances[1, 2] > 1e30


@pytest.mark.parametrize(("threads", "block"), [(1, 1 << 18), (3, 1 << 18), (2, 13)])
def test_neither_threads_nor_blocks_change_a_bit_of_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, block: int
) -> None:
    # Of so many updates a thread reads 26,214 elements at a time: these are several times as many.
    schema = _model(tmp_path, 70_000)
    updates = _updates(tmp_path, schema, _rows(schema, [1.0] * 40))
    norms, distances = _measured(tmp_path, updates)
    monkeypatch.setattr(_threads, "THREADS", threads)
    again, apart = _measured(tmp_path, updates, block)
    assert again.tobytes() == norms.tobytes()
    assert apart.tobytes() == distances.tobytes()


def test_discounted_updates_are_measured_as_they_count(tmp_path: Path) -> None:
    schema = _model(tmp_path, 100)
    rows = _rows(schema, [1.0, 2.0])
    norms, distances = _measured(tmp_path, _updates(tmp_path, schema, rows))
    half, quarter = _measured(tmp_path, _updates(tmp_path, schema, rows, discount=0.5))
    np.testing.assert_array_equal(half, norms / 2)
    np.testing.assert_array_equal(quarter, distances / 4)


def test_the_aggregator_is_told_what_is_known_of_each_update(tmp_path: Path) -> None:
    schema = _model(tmp_path, 3)
    (row,) = _rows(schema, [1.0])
    path, curious = write_update(tmp_path / "u", schema, row), Curious()
    updates = [WeightedUpdate("b", path, 7, {"loss": 0.5}, 3, 0.5), WeightedUpdate("a", path, 1, {"loss": 2.0})]
    fold(tmp_path / "base", updates, tmp_path / "out", curious, Sgd())
    ((known, _),) = curious.heard
    assert known == Updates(clients=("b", "a"), examples=(7, 1), staleness=(3, 0), facts=({"loss": 0.5}, {"loss": 2.0}))


def test_nothing_is_measured_for_those_who_do_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Curious, "measures", frozenset())
    schema = _model(tmp_path, 3)
    curious = Curious()
    fold(tmp_path / "base", _updates(tmp_path, schema, _rows(schema, [1.0])), tmp_path / "out", curious, Sgd())
    assert curious.heard[0][1] == Measured()


def test_updates_with_the_factor_zero_are_not_read(tmp_path: Path) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(3, "f4")})
    rows = [{"a": np.array([1, 2, 3], "f4")}, {"a": np.full(3, np.nan, "f4")}]
    updates = _updates(tmp_path, schema, rows)
    unmeasured = Curious(answer=Weighted(factors=(2.0, 0.0)))
    fold(tmp_path / "base", updates, tmp_path / "out", unmeasured, Sgd())
    np.testing.assert_array_equal(read(tmp_path / "out", schema)["a"], [2, 4, 6])


@pytest.mark.parametrize("aggregator", [Mean(), Uniform(), Curious()])
def test_updates_of_zeros_leave_the_model(tmp_path: Path, aggregator: Mean) -> None:
    schema = write_model(tmp_path / "base", {"a": np.array([1, 2, 3], "f4")})
    updates = _updates(tmp_path, schema, [{"a": np.zeros(3, "f4")}] * 3)
    assert fold(tmp_path / "base", updates, tmp_path / "out", aggregator, Sgd()).norm == 0
    assert (tmp_path / "out").read_bytes() == (tmp_path / "base").read_bytes()


@pytest.mark.parametrize("aggregator", [Mean(), Uniform()])
def test_a_cohort_without_weight_divides_by_nothing(aggregator: Mean) -> None:
    """Admission lets none in; a rule is asked all the same."""
    for clients in (0, 2):
        known = Updates(
            clients=("x",) * clients, examples=(0,) * clients, staleness=(0,) * clients, facts=({},) * clients
        )
        rule = aggregator.rule(known, Measured())
        assert isinstance(rule, Weighted)
        assert np.isfinite(rule.factors).all()


def test_a_discount_scales_what_is_read_whatever_the_rule(tmp_path: Path) -> None:
    """FedBuff (Nguyen et al. 2022): 1 / sqrt(1 + staleness). REFERENCES: 1, 0.70710678, 0.5, 0.33333333."""
    schema = write_model(tmp_path / "base", {"a": np.zeros(1)})
    path = write_update(tmp_path / "u", schema, {"a": np.ones(1)})
    discounts = [1, 0.70710678, 0.5, 0.33333333]
    updates = [WeightedUpdate(f"{k}", path, 1, {}, 0, each) for k, each in enumerate(discounts)]
    fold(tmp_path / "base", updates, tmp_path / "out", Uniform(), Sgd())
    assert read(tmp_path / "out", schema)["a"] == pytest.approx(sum(discounts) / 4)
    columns = Curious(answer=Coordinatewise(chosen=(1, 3), function=lambda values: values.min(axis=0)))
    fold(tmp_path / "base", updates, tmp_path / "out", columns, Sgd())
    assert read(tmp_path / "out", schema)["a"] == pytest.approx(0.33333333)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (Weighted(factors=(1.0, float("nan"))), NotFiniteError, "gave the update of 'c1' the factor nan"),
        (Weighted(factors=(1.0,)), ValueError, "gave 1 factors for 2 updates"),
        (Coordinatewise(chosen=(), function=lambda values: values[0]), ValueError, r"chose \(\) of 2 updates"),
        (Coordinatewise(chosen=(0, 2), function=lambda values: values[0]), ValueError, r"chose \(0, 2\) of 2 updates"),
        (Coordinatewise(chosen=(0, 1), function=lambda values: values), ValueError, r"made shape \(2, 3\) of 2 x 3"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(tmp_path: Path, answer: Rule, error: type[Exception], words: str) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(3, "f4")})
    updates = _updates(tmp_path, schema, _rows(schema, [1.0, 1.0]))
    with pytest.raises(error, match=words):
        fold(tmp_path / "base", updates, tmp_path / "out", Curious(answer=answer), Sgd())
    assert not (tmp_path / "out").exists()


def test_fewer_updates_than_the_aggregator_needs_are_refused(tmp_path: Path) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(3, "f4")})
    updates = _updates(tmp_path, schema, _rows(schema, [1.0, 1.0]))
    with pytest.raises(ValueError, match="needs at least 3 updates"):
        fold(tmp_path / "base", updates, tmp_path / "out", Curious(least=3), Sgd())
