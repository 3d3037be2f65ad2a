"""The fold, from files to a file."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fedelta.errors import NotFiniteError, PayloadError, StorageError
from fedelta.parts import Aggregator, Coordinatewise, Measure, Measured, Needs, Rule, Updates
from fedelta.tensors import Schema
from fedelta_server.aggregate import WeightedUpdate, _combine, _threads, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean, Sum, Uniform
from tests.server.aggregate.tensor_files import Array, read, schema_of, write_model, write_update

Tensors = dict[str, Array]


def _mixed(seed: int) -> Tensors:
    """A model with every kind of tensor that needs care."""
    rng = np.random.default_rng(seed)
    return {
        "conv.weight": rng.standard_normal((5, 3, 3)).astype("f4"),
        "bn.running_mean": rng.standard_normal(7).astype("f4"),
        "bn.steps": np.array(41, "i8"),
        "aux.ids": rng.integers(0, 9, 6).astype("i4"),
        "double": rng.standard_normal((3, 4)),
        "empty": np.empty((0, 4), "f4"),
        "half": rng.standard_normal(11).astype("f2"),
        "brain": (rng.standard_normal(13).astype("f4").view("u4") >> 16).astype("u2"),
        "scale": np.array(1.5, "f4"),
    }


BRAIN = frozenset({"brain"})


def _deltas(schema: Schema, seed: int, scale: float = 0.1) -> Tensors:
    rng = np.random.default_rng(1000 + seed)
    return {
        spec.name: (scale * rng.standard_normal(spec.shape)).astype(spec.dtype.update.storage)
        for spec in schema.tensors
        if spec.dtype.is_float
    }


def _updates(root: Path, schema: Schema, deltas: Mapping[str, Tensors], weights: list[int]) -> list[WeightedUpdate]:
    return [
        WeightedUpdate(client, write_update(root / f"{client}.update", schema, delta), weight)
        for (client, delta), weight in zip(deltas.items(), weights, strict=True)
    ]


def _fold_deltas(
    root: Path, model: Tensors, deltas: Mapping[str, Tensors], weights: list[int], lr: float = 1.0
) -> Tensors:
    schema = write_model(root / "base", model, BRAIN & model.keys())
    updates = _updates(root, schema, deltas, weights)
    folded = fold(root / "base", updates, root / "out", Mean(), Sgd(lr=lr))
    raw = (root / "out").read_bytes()
    assert folded.length == len(raw)
    assert folded.digest == blake3(raw).digest()
    return read(root / "out", schema)


def _bfloat_to_float(values: Array) -> Array:
    return (values.astype("u4") << 16).view("f4")


def test_it_agrees_with_a_plain_float64_average(tmp_path: Path) -> None:
    model = _mixed(0)
    schema = schema_of(model, BRAIN)
    deltas = {f"site-{k}": _deltas(schema, k) for k in range(5)}
    weights = [3, 1, 400, 7, 20]
    found = _fold_deltas(tmp_path, model, deltas, weights, lr=0.5)
    for name, delta in deltas["site-0"].items():
        base = _bfloat_to_float(model[name]) if name == "brain" else model[name]
        got = _bfloat_to_float(found[name]) if name == "brain" else found[name]
        mean = np.average([d[name].astype("f8") for d in deltas.values()], axis=0, weights=weights)
        error = {"double": 1e-15, "half": 2**-10, "brain": 2**-7}.get(name, 2e-7)
        np.testing.assert_allclose(got.astype("f8"), base.astype("f8") + 0.5 * mean, rtol=error, atol=error)
        assert delta.shape == got.shape


def test_integers_are_constants_of_the_job(tmp_path: Path) -> None:
    model = _mixed(0)
    deltas = {f"site-{k}": _deltas(schema_of(model, BRAIN), k) for k in range(3)}
    found = _fold_deltas(tmp_path, model, deltas, [1, 2, 3])
    assert found["bn.steps"] == 41
    np.testing.assert_array_equal(found["aux.ids"], model["aux.ids"])


def test_any_tool_opens_the_result(tmp_path: Path) -> None:
    model = _mixed(0)
    del model["brain"]  # numpy has no such type
    _fold_deltas(tmp_path, model, {"a": _deltas(schema_of(model), 1)}, [1])
    found = load_file(tmp_path / "out")
    assert found.keys() == model.keys()
    assert found["empty"].shape == (0, 4)


def test_one_client_gives_base_plus_delta_exactly(tmp_path: Path) -> None:
    model = {"a": np.linspace(-3, 3, 1000, dtype="f4"), "d": np.linspace(-1, 2, 999)}
    delta = _deltas(schema_of(model), 0, scale=1e-3)
    found = _fold_deltas(tmp_path, model, {"only": delta}, [12345])
    for name in model:
        np.testing.assert_array_equal(found[name], model[name] + delta[name])


@pytest.mark.parametrize("weights", [[1, 1, 1], [3, 7, 11], [1, 1, 10**9]])
def test_equal_updates_average_to_themselves(tmp_path: Path, weights: list[int]) -> None:
    model = {"a": np.linspace(-3, 3, 4096, dtype="f4")}
    delta = _deltas(schema_of(model), 0)
    found = _fold_deltas(tmp_path, model, dict.fromkeys(["x", "y", "z"], delta), weights)
    np.testing.assert_array_equal(found["a"], model["a"] + delta["a"])


def test_only_the_ratio_of_weights_counts(tmp_path: Path) -> None:
    model = {"a": np.zeros(500, "f4")}
    deltas = {name: _deltas(schema_of(model), k) for k, name in enumerate("xyz")}
    some = _fold_deltas(tmp_path, model, deltas, [1, 2, 5])["a"].copy()
    others = _fold_deltas(tmp_path, model, deltas, [1000, 2000, 5000])["a"]
    np.testing.assert_array_equal(some, others)


def test_float32_error_does_not_grow_with_the_number_of_clients(tmp_path: Path) -> None:
    # In float32, 300 equal shares of 1 sum to 1 - 2e-5.
    model = {"a": np.zeros(100, "f4")}
    deltas: dict[str, Tensors] = {f"{k:03}": {"a": np.ones(100, "f4")} for k in range(300)}
    assert (_fold_deltas(tmp_path, model, deltas, [1] * 300)["a"] == 1).all()


SIZES = (5, 20, 75)
"""How many examples the clients of a regression have."""


class _Regression:
    """Least squares over clients with few and many examples, whose data differ."""

    def __init__(self, dtype: str) -> None:
        rng = np.random.default_rng(5)
        self.dtype = dtype
        shifts = np.repeat([-2.0, 0.0, 1.0], SIZES)[:, np.newaxis]
        self.x = (rng.standard_normal((sum(SIZES), 4)) + shifts).astype(dtype)
        noise = rng.standard_normal(len(self.x))
        self.y = (self.x @ rng.standard_normal(4) + 0.1 * noise).astype(dtype)
        self.clients = np.split(np.arange(len(self.x)), np.cumsum(SIZES)[:-1])

    def gradient(self, weights: Array, rows: Array) -> Array:
        errors = self.x[rows] @ weights - self.y[rows]
        found: Array = self.x[rows].T @ errors / np.asarray(len(rows), self.dtype)
        return found

    def descended(self, rate: float, rounds: int, weights: Array | None = None) -> Array:
        """Where gradient descent leads that sees all data, each client's mean loss counting by its weight."""
        shares = np.asarray(SIZES if weights is None else weights, self.dtype)
        at = np.zeros(4, self.dtype)
        for _ in range(rounds):
            gradients = [self.gradient(at, rows) for rows in self.clients]
            at = at - rate * np.average(gradients, axis=0, weights=shares).astype(self.dtype)
        return at

    def federated(self, root: Path, rounds: int, step: float, aggregator: Aggregator, lr: float = 1.0) -> Array:
        """What the fold makes of files with `step` times the negative full-batch gradients of all clients."""
        schema = write_model(root / "model", {"w": np.zeros(4, self.dtype)})
        for _ in range(rounds):
            start = read(root / "model", schema)["w"].copy()
            deltas: dict[str, Tensors] = {
                f"c{k}": {"w": (-step * self.gradient(start, rows)).astype(self.dtype)}
                for k, rows in enumerate(self.clients)
            }
            fold(root / "model", _updates(root, schema, deltas, list(SIZES)), root / "next", aggregator, Sgd(lr=lr))
            (root / "next").replace(root / "model")
        return read(root / "model", schema)["w"]


@pytest.mark.parametrize(("dtype", "bound"), [("f8", 4e-16), ("f4", 1e-6)])
def test_fedavg_with_one_full_batch_epoch_is_central_gradient_descent(tmp_path: Path, dtype: str, bound: float) -> None:
    """REFERENCES: identity of FedAvg (McMahan et al. 2017) with E=1, full batch, all clients; 200 rounds."""
    task, rate, rounds = _Regression(dtype), 0.05, 200
    central = np.zeros(4, dtype)
    for _ in range(rounds):
        central = central - rate * task.gradient(central, np.arange(len(task.x)))
    scale = max(float(np.abs(central).max()), 1.0)
    found = task.federated(tmp_path, rounds, rate, Mean())
    assert np.abs(found - central).max() <= bound * scale
    assert np.abs(central).max() > 0.5


def test_the_plain_mean_of_unequal_clients_is_not_central_gradient_descent(tmp_path: Path) -> None:
    """REFERENCES: `uniform` descends the mean of the clients' losses, `mean` the loss over all examples."""
    task = _Regression("f8")
    found = task.federated(tmp_path, 200, 0.05, Uniform())
    np.testing.assert_allclose(found, task.descended(0.05, 200, np.ones(3)), rtol=1e-12)
    assert np.abs(found - task.descended(0.05, 200)).max() > 1e-3


def test_fedsgd_is_the_clients_gradients_and_one_step_on_the_server(tmp_path: Path) -> None:
    """W <- W - eta * 1/C * sum of the clients' full-batch gradients: `uniform`, and the server's lr is eta."""
    task = _Regression("f8")
    found = task.federated(tmp_path, 50, 1.0, Uniform(), lr=0.05)
    np.testing.assert_allclose(found, task.descended(0.05, 50, np.ones(3)), rtol=1e-12)


def test_an_unweighted_mean_would_be_another_rule(tmp_path: Path) -> None:
    model = {"a": np.zeros(1, "f4")}
    deltas: dict[str, Tensors] = {"x": {"a": np.array([0], "f4")}, "y": {"a": np.array([1], "f4")}}
    assert _fold_deltas(tmp_path, model, deltas, [1, 3])["a"] == 0.75


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block=st.integers(1, 60), seed=st.integers(0, 3))
def test_the_length_of_blocks_does_not_change_a_bit(tmp_path: Path, block: int, seed: int) -> None:
    schema = write_model(tmp_path / "base", _mixed(seed), BRAIN)
    deltas = {f"site-{k}": _deltas(schema, k) for k in range(5)}
    updates = _updates(tmp_path, schema, deltas, [5, 1, 8, 2, 11])
    whole = fold(tmp_path / "base", updates, tmp_path / "whole", Mean(), Sgd(lr=0.7))
    cut = fold(tmp_path / "base", updates, tmp_path / "cut", Mean(), Sgd(lr=0.7), block=block)
    assert cut == whole


def test_updates_are_added_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    # 1 is lost beside 2^53, unless that is gone by then.
    schema = write_model(tmp_path / "base", {"a": np.zeros(1)})
    deltas: dict[str, Tensors] = {f"{v}": {"a": np.array([v])} for v in (2.0**54, 1.0, -(2.0**54))}
    big, one, minus = _updates(tmp_path, schema, deltas, [1] * 3)
    for order, total in (((big, one, minus), 0.0), ((big, minus, one), 1.0)):
        fold(tmp_path / "base", order, tmp_path / "out", Sum(), Sgd())
        assert read(tmp_path / "out", schema)["a"] == total


def test_more_clients_than_open_files(tmp_path: Path) -> None:
    model = {"a": np.zeros(1000, "f4")}
    schema = write_model(tmp_path / "base", model)
    deltas: dict[str, Tensors] = {f"{k:04}": {"a": np.full(1000, k, "f4")} for k in range(301)}
    updates = _updates(tmp_path, schema, deltas, [1] * 301)
    before = _open_files()
    with _limit(resource.RLIMIT_NOFILE, 160 + before):
        fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd(), block=100)
    assert (read(tmp_path / "out", schema)["a"] == 150).all()
    assert _open_files() == before


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def _limit(which: int, soft: int) -> Iterator[None]:
    old, hard = resource.getrlimit(which)
    resource.setrlimit(which, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (old, hard))


def test_bfloat16_is_rounded_to_nearest_ties_to_even(tmp_path: Path) -> None:
    # bfloat16 has 8 significant bits: between 1 and 2 the step is 2^-7.
    step = 2.0**-7
    base = np.array([0x3F80, 0x3F81, 0x3F80, 0x3F80], "u2")  # 1, 1 + step, 1, 1
    delta = np.array([step / 2, step / 2, step * 0.51, step * 0.49], "f4")
    found = _fold_deltas(tmp_path, {"brain": base}, {"a": {"brain": delta}}, [1])["brain"]
    np.testing.assert_array_equal(_bfloat_to_float(found), np.array([1, 1 + 2 * step, 1 + step, 1], "f4"))


@pytest.mark.parametrize(
    ("name", "start", "delta"), [("half", 60000, 6000), ("single", 3e38, 9e37), ("brain", 0, 3.4e38)]
)
def test_a_model_that_overflows_is_not_kept(tmp_path: Path, name: str, start: float, delta: float) -> None:
    dtype = {"half": "f2", "single": "f4", "brain": "u2"}[name]
    model = {"first": np.zeros(9, "f4"), name: np.full((2, 3), start, dtype)}
    deltas: dict[str, Tensors] = {"a": {"first": np.zeros(9, "f4"), name: np.zeros((2, 3), "f4")}}
    deltas["a"][name][1, 2] = delta
    with pytest.raises(NotFiniteError, match=rf"tensor '{name}'.*\[1, 2\]"):
        _fold_deltas(tmp_path, model, deltas, [1])
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(100_000, "f4")})
    updates = _updates(tmp_path, schema, {"x": {"a": np.ones(100_000, "f4")}}, [1])
    with _limit(resource.RLIMIT_FSIZE, 50_000), pytest.raises(StorageError, match=r"out: File too large"):
        fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd(), block=1000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threads", [1, 3])
def test_the_number_of_threads_does_not_change_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    schema = write_model(tmp_path / "base", _mixed(1), BRAIN)
    updates = _updates(tmp_path, schema, {f"{k}": _deltas(schema, k) for k in range(4)}, [1, 2, 3, 4])
    usual = fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd(), block=2)
    monkeypatch.setattr(_threads, "THREADS", threads)
    assert fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd(), block=2) == usual


def test_damage_to_what_was_stored_is_noticed(tmp_path: Path) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(100, "f4")})
    updates = _updates(tmp_path, schema, {"x": {"a": np.ones(100, "f4")}}, [1])
    os.truncate(updates[0].path, 300)
    with pytest.raises(StorageError, match=r"x\.update: has 300 bytes, should have"):
        fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd())
    updates[0].path.unlink()
    with pytest.raises(StorageError, match=r"x\.update: No such file"):
        fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd())


def test_only_canonical_models_are_folded_into(tmp_path: Path) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(100, "f4")})
    write_update(tmp_path / "base", schema, {"a": np.zeros(100, "f4")})
    with pytest.raises(PayloadError, match="canonical model"):
        fold(tmp_path / "base", [WeightedUpdate("x", tmp_path / "base", 1)], tmp_path / "out", Mean(), Sgd())


@dataclass(frozen=True)
class _Median:
    """An aggregator that looks at every client's values, as third parties may write one."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        return Coordinatewise(chosen=tuple(range(len(updates))), function=self._median)

    def _median(self, values: Array) -> Array:
        self.shapes.append(values.shape)
        found: Array = np.median(values, axis=0)
        return found


def test_an_aggregator_may_need_each_update_within_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """REFERENCES: of the scalars 0, 1, ..., 8, 100 the mean is 13.6 and the median 4.5."""
    monkeypatch.setattr(_combine, "EACH_BYTES", 16_000)
    schema = write_model(tmp_path / "base", {"a": np.zeros(1000, "f4")})
    deltas = {f"{k}": {"a": np.full(1000, k if k < 9 else 100, "f4")} for k in range(10)}
    updates = _updates(tmp_path, schema, deltas, [1] * 10)
    median = _Median()
    fold(tmp_path / "base", updates, tmp_path / "out", median, Sgd())
    assert (read(tmp_path / "out", schema)["a"] == 4.5).all()
    assert len(median.shapes) > 1
    # What it is given, and three arrays of its own, in all threads.
    assert all(4 * rows * length * 4 * _threads.THREADS <= 16_000 for rows, length in median.shapes)
    fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd())
    assert (read(tmp_path / "out", schema)["a"] == np.float32(13.6)).all()


def test_no_updates_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 update"):
        fold(tmp_path / "base", [], tmp_path / "out", Mean(), Sgd())


_MEMORY_SCRIPT = """
import sys
from pathlib import Path
from fedelta.config import AggregatorPart, ServerOptimizerPart
from fedelta.parts import build
from fedelta_server.aggregate import Carry, WeightedUpdate, fold
def peak() -> int:
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
root = Path(sys.argv[1])
parts = build(AggregatorPart(sys.argv[2])), build(ServerOptimizerPart(sys.argv[3]))
updates = [WeightedUpdate(str(k), root / "delta", 1) for k in range(4)]
before = peak()
fold(root / "base", updates, root / "out", *parts, carry=Carry(target=root / "state"))
print(peak() - before)
"""


@pytest.mark.parametrize(
    ("aggregator", "optimizer", "most"), [("mean", "sgd", 40), ("median", "sgd", 64), ("geometric-median", "adam", 64)]
)
def test_memory_is_that_of_a_few_blocks(tmp_path: Path, aggregator: str, optimizer: str, most: int) -> None:
    values = np.zeros(16 << 20, "f4")  # 64 MiB
    schema = write_model(tmp_path / "base", {"a": values})
    write_update(tmp_path / "delta", schema, {"a": values})
    command = [sys.executable, "-W", "ignore", "-c", _MEMORY_SCRIPT, str(tmp_path), aggregator, optimizer]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(done.stdout) < most * 1024
