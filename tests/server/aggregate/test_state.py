"""What a fold carries from version to version beside the model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from fedelta.errors import NotFiniteError, StorageError
from fedelta.parts import Aggregator, ServerOptimizer, Step
from fedelta.tensors import STATE_METADATA, UPDATE_METADATA, state_schema, update_schema
from fedelta_server.aggregate import Carry, Folded, WeightedUpdate, _threads, fold, state_groups
from fedelta_server.aggregate.optimizers.adaptive import Adagrad, Adam
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean, Uniform
from tests.server.aggregate.tensor_files import Array, read, write, write_model

Tensors = Mapping[str, Array]

MODEL: Tensors = {
    "b": np.linspace(-1, 1, 6, dtype="f4").reshape(2, 3),
    "double": np.linspace(0, 2, 5),
    "half": np.linspace(0, 1, 7).astype("f2"),
    "steps": np.array(3, "i8"),
    "z": np.linspace(1, 2, 11, dtype="f4"),
}
SHARED = ("control", "other")
MEAN = Mean()


class Folder:
    """A model that is folded into, version after version, with its state."""

    def __init__(self, root: Path, optimizer: ServerOptimizer, shared: tuple[str, ...] = ()) -> None:
        self.root, self.optimizer, self.shared = root, optimizer, shared
        root.mkdir(exist_ok=True)
        self.model = write_model(root / "0.model", MODEL)
        self.update = update_schema(self.model, shared)
        self.state = state_schema(self.model, state_groups(optimizer, shared))
        self.version = 0

    def deltas(self, client: int) -> dict[str, Array]:
        rng = np.random.default_rng([self.version, client])
        return {
            spec.name: (0.1 * rng.standard_normal(spec.shape)).astype(spec.dtype.storage)
            for spec in self.update.tensors
        }

    def fold(self, clients: int, population: int = 0, block: int = 1 << 18, aggregator: Aggregator = MEAN) -> Folded:
        updates = [self._write(client) for client in range(clients)]
        self.version += 1
        source = self.path("state", self.version - 1)
        return fold(
            self.path("model", self.version - 1),
            updates,
            self.path("model"),
            aggregator,
            self.optimizer,
            step=Step(version=self.version, rounds=9, clients=clients, population=max(clients, population)),
            carry=Carry(shared=self.shared, source=source if self.version > 1 else None, target=self.path("state")),
            block=block,
        )

    def path(self, kind: str, version: int | None = None) -> Path:
        return self.root / f"{self.version if version is None else version}.{kind}"

    def kept(self, group: str) -> dict[str, Array]:
        found = read(self.path("state"), self.state, STATE_METADATA)
        return {name.removeprefix(f"{group}/"): found[name] for name in found if name.startswith(f"{group}/")}

    def _write(self, client: int) -> WeightedUpdate:
        path = self.root / f"{self.version}.{client}.update"
        write(path, self.update, UPDATE_METADATA, self.deltas(client))
        return WeightedUpdate(f"c{client}", path, client + 1)


def _mean(rows: Sequence[Tensors], name: str, weights: Sequence[float] | None = None) -> Array:
    found: Array = np.average([row[name].astype("f8") for row in rows], axis=0, weights=weights)
    return found


def test_an_optimizers_state_is_kept_beside_the_model(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Sgd(lr=0.5, momentum=0.9))
    buffer: dict[str, Array] = {}
    for _ in range(3):
        deltas = [folder.deltas(client) for client in range(3)]
        folded = folder.fold(3)
        raw = folder.path("state").read_bytes()
        assert folded.state == (blake3(raw).digest(), len(raw))
        kept = folder.kept("optimizer.momentum")
        assert kept.keys() == {"b", "double", "half", "z"}
        for name, values in kept.items():
            buffer[name] = 0.9 * buffer.get(name, 0.0) + _mean(deltas, name, [1, 2, 3])
            np.testing.assert_allclose(values, buffer[name], rtol=1e-5, atol=1e-7)
            assert values.dtype == (np.float64 if name == "double" else np.float32)


def test_any_tool_opens_the_state(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Adam(), ("control",))
    folder.fold(2)
    found = load_file(folder.path("state"))
    assert sorted(name for name in found if name.endswith("/z")) == [
        "optimizer.m/z",
        "optimizer.v/z",
        "shared.control/z",
    ]
    assert found["optimizer.v/b"].shape == (2, 3)


def test_state_that_is_kept_makes_the_next_version_another(tmp_path: Path) -> None:
    """The state is read back: a job that lost it would go on as if it began."""
    kept, lost = Folder(tmp_path / "kept", Sgd(momentum=0.9)), Folder(tmp_path / "lost", Sgd(momentum=0.9))
    assert kept.fold(2) == lost.fold(2)
    lost.path("state").unlink()
    fresh = state_schema(lost.model, state_groups(lost.optimizer, ()))
    zeros = {spec.name: np.zeros(spec.shape, spec.dtype.storage) for spec in fresh.tensors}
    write(lost.path("state"), fresh, STATE_METADATA, zeros)
    assert kept.fold(2).digest != lost.fold(2).digest


def test_shared_tensors_move_by_the_plain_mean_times_who_took_part(tmp_path: Path) -> None:
    """As SCAFFOLD's control does (Karimireddy et al. 2020, algorithm 1): c + |S| / N * mean of the changes."""
    folder = Folder(tmp_path, Sgd(), SHARED)
    expected: dict[str, Array] = {}
    for clients in (4, 3):
        deltas = [folder.deltas(client) for client in range(clients)]
        base = read(folder.path("model"), folder.model)["z"].astype("f8")
        folder.fold(clients, population=8)
        for group in SHARED:
            for name, values in folder.kept(f"shared.{group}").items():
                change = clients / 8 * _mean(deltas, f"shared.{group}/{name}")
                expected[f"{group}/{name}"] = expected.get(f"{group}/{name}", 0.0) + change
                np.testing.assert_allclose(values, expected[f"{group}/{name}"], rtol=1e-6, atol=1e-8)
        found = read(folder.path("model"), folder.model)["z"]
        np.testing.assert_allclose(found, base + _mean(deltas, "z", range(1, clients + 1)), rtol=1e-6)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(block=st.integers(1, 14), threads=st.integers(1, 3))
def test_neither_blocks_nor_threads_change_a_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, threads: int
) -> None:
    whole = Folder(tmp_path / "whole", Adam(), SHARED)
    cut = Folder(tmp_path / "cut", Adam(), SHARED)
    for _ in range(2):
        usual = whole.fold(3, population=5)
        with monkeypatch.context() as patch:
            patch.setattr(_threads, "THREADS", threads)
            assert cut.fold(3, population=5, block=block) == usual


def test_a_plan_without_state_makes_no_file(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Sgd())
    assert folder.fold(2).state is None
    assert not folder.path("state").exists()


def test_the_norm_is_that_of_the_change_of_all_floats(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Sgd(lr=2.0))
    deltas = [folder.deltas(client) for client in range(3)]
    moved = [2.0 * _mean(deltas, name).ravel() for name in ("b", "double", "half", "z")]
    folded = folder.fold(3, aggregator=Uniform())
    assert folded.norm == pytest.approx(np.linalg.norm(np.concatenate(moved)), rel=1e-5)


@pytest.mark.parametrize("block", [7, 1000, 4096, 5000, 1 << 18])
def test_the_norm_has_the_same_bits_in_blocks_of_any_length(tmp_path: Path, block: int) -> None:
    values = np.random.default_rng(1).standard_normal(30_001).astype("f4")
    schema = write_model(tmp_path / "base", {"a": values})
    write(tmp_path / "delta", schema.update, UPDATE_METADATA, {"a": values[::-1].copy()})
    updates = [WeightedUpdate("x", tmp_path / "delta", 1)]
    usual = fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd()).norm
    assert fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Sgd(), block=block).norm == usual
    assert usual == pytest.approx(np.linalg.norm(values.astype("f8")), rel=1e-6)


def test_damage_to_the_state_is_noticed(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Sgd(momentum=0.9))
    folder.fold(2)
    path = folder.path("state")
    path.write_bytes(path.read_bytes().replace(b"momentum", b"momenta!", 1))
    with pytest.raises(StorageError, match=r"1\.state: it is not the state of this plan's parts"):
        folder.fold(2)
    assert not folder.path("model").exists()
    assert not folder.path("state").exists()


def test_state_that_overflows_is_not_kept(tmp_path: Path) -> None:
    schema = write_model(tmp_path / "base", {"a": np.zeros(3, "f4")})
    state = state_schema(schema, ["optimizer.v"])
    write(tmp_path / "state", state, STATE_METADATA, {"optimizer.v/a": np.full(3, np.finfo("f4").max)})
    write(tmp_path / "delta", schema.update, UPDATE_METADATA, {"a": np.array([0, 0, 1e18], "f4")})
    carry = Carry(source=tmp_path / "state", target=tmp_path / "next")
    updates = [WeightedUpdate("x", tmp_path / "delta", 1)]
    with pytest.raises(NotFiniteError, match=r"tensor 'a': its value at index \[2\]"):
        fold(tmp_path / "base", updates, tmp_path / "out", Mean(), Adagrad(), carry=carry)
    assert not (tmp_path / "next").exists()


def test_state_without_a_place_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    folder = Folder(tmp_path, Sgd(momentum=0.5))
    with pytest.raises(ValueError, match=r"the plan keeps optimizer\.momentum"):
        fold(folder.path("model"), [folder._write(0)], tmp_path / "out", Mean(), Sgd(momentum=0.5))
