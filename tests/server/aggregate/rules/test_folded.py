"""All rules through the fold, from real files: the same as on arrays, and the same bits however it is cut."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from fedelta.parts import Aggregator
from fedelta_server.aggregate import WeightedUpdate, _threads, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.coordinatewise import Median, TrimmedMean
from fedelta_server.aggregate.rules.fednova import FedNova
from fedelta_server.aggregate.rules.geometric_median import GeometricMedian
from fedelta_server.aggregate.rules.krum import Bulyan, Krum, MultiKrum
from fedelta_server.aggregate.rules.norm_bounded import NormBounded
from fedelta_server.aggregate.rules.q_fedavg import QFedAvg
from tests.server.aggregate.rules.applied import Array, aggregated
from tests.server.aggregate.tensor_files import read, write_model, write_update

CLIENTS = 11
EXAMPLES = [7, 1, 30, 12, 5, 9, 2, 2, 40, 11, 3]
FACTS = [{"steps": float(k + 1), "loss": 0.1 * (k + 1)} for k in range(CLIENTS)]

ALL: list[Aggregator] = [
    Median(),
    TrimmedMean(share=0.2),
    Krum(byzantine=2),
    MultiKrum(byzantine=2),
    Bulyan(byzantine=2),
    GeometricMedian(),
    NormBounded(),
    QFedAvg(lr=0.1, q=2),
    FedNova(),
]
named = pytest.mark.parametrize("aggregator", ALL, ids=lambda each: type(each).__name__)

MODEL = {
    "wide": np.zeros((3, 5)),
    "weight": np.zeros((17, 4), "f4"),
    "steps": np.array(3, "i8"),
    "bias": np.zeros(9, "f4"),
}
FLOATS = ["bias", "weight", "wide"]


def _deltas(seed: int, scale: float = 1.0) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [
        {name: (scale * rng.standard_normal(MODEL[name].shape)).astype(MODEL[name].dtype) for name in FLOATS}
        for _ in range(CLIENTS)
    ]


def _folded(
    root: Path, aggregator: Aggregator, deltas: list[dict[str, Array]], block: int = 1 << 18
) -> dict[str, Array]:
    schema = write_model(root / "base", MODEL)
    updates = [
        WeightedUpdate(f"site-{k:03}", write_update(root / f"{k}.update", schema, delta), examples, facts=facts)
        for k, (delta, examples, facts) in enumerate(zip(deltas, EXAMPLES, FACTS, strict=True))
    ]
    fold(root / "base", updates, root / "out", aggregator, Sgd(), block=block)
    return {name: values.copy() for name, values in read(root / "out", schema).items()}


@named
def test_files_give_what_arrays_give(tmp_path: Path, aggregator: Aggregator) -> None:
    deltas = _deltas(0)
    found = _folded(tmp_path, aggregator, deltas)
    flat = np.array([np.concatenate([each[name].ravel() for name in FLOATS], dtype="f8") for each in deltas])
    expected = aggregated(aggregator, flat, examples=EXAMPLES, facts=FACTS)
    got = np.concatenate([found[name].ravel() for name in FLOATS], dtype="f8")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9)
    assert np.abs(got).max() > 1e-4
    assert found["steps"] == 3


@contextmanager
def _threads_of(monkeypatch: pytest.MonkeyPatch, count: int) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(_threads, "THREADS", count)
        yield


@named
def test_neither_blocks_nor_threads_change_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aggregator: Aggregator
) -> None:
    deltas = _deltas(1)
    usual = _folded(tmp_path, aggregator, deltas)
    for threads, block in ((1, 1), (3, 7), (2, 1 << 18)):
        with _threads_of(monkeypatch, threads):
            other = _folded(tmp_path, aggregator, deltas, block=block)
        assert {name: values.tobytes() for name, values in other.items()} == {
            name: values.tobytes() for name, values in usual.items()
        }


@named
def test_a_model_that_no_client_changed_stays_as_it_is(tmp_path: Path, aggregator: Aggregator) -> None:
    found = _folded(tmp_path, aggregator, _deltas(2, scale=0.0))
    assert not any(found[name].any() for name in FLOATS)
