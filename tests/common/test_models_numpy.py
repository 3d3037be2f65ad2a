"""Mappings of numpy arrays to and from files."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from fedelta import load_state
from fedelta.errors import LearnerError, ModelMismatchError, PayloadError
from fedelta.models import _state as block_loop
from fedelta.models import bind_model

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@settings(deadline=None, max_examples=60)
@given(
    kinds=st.dictionaries(
        st.text("abc", min_size=1, max_size=4),
        st.tuples(st.sampled_from(["f8", "f4", "f2", "i4", "u2"]), st.integers(0, 9)),
        max_size=10,
    ),
    block=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
def test_a_delta_is_the_difference_wherever_blocks_end(
    folder: Path, kinds: dict[str, tuple[str, int]], block: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    base = {name: rng.normal(size=size).astype(kind) for name, (kind, size) in kinds.items()}
    new = {name: rng.normal(size=size).astype(kind) for name, (kind, size) in kinds.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_loop, "BLOCK", block)
        bind_model(base).write_model(folder / "base")
        written = bind_model(new).write_delta(folder / "base", folder / "delta")

    found = safetensors.numpy.load_file(folder / "delta")

    floats = {name for name, (kind, _) in kinds.items() if kind.startswith("f")}
    assert found.keys() == floats
    for name in floats:
        wide = np.float64 if kinds[name][0] == "f8" else np.float32
        np.testing.assert_array_equal(found[name], new[name].astype(wide) - base[name].astype(wide), strict=True)
    assert written.norm == pytest.approx(math.sqrt(sum((found[name].astype(float) ** 2).sum() for name in floats)))


@pytest.mark.parametrize(
    ("kind", "value", "norm"),
    [
        ("f4", 3e-30, 6e-30),
        ("f4", 1e38, 2e38),
        ("f8", 1e-150, 2e-150),
        # Squares that no float64 holds: the norm stays a number.
        ("f8", 1e200, math.sqrt(sys.float_info.max)),
    ],
)
def test_the_norm_of_an_update_is_a_number_for_tiny_and_for_huge_values(
    tmp_path: Path, kind: str, value: float, norm: float
) -> None:
    model: dict[str, Any] = {"w": np.zeros(4, kind)}
    state = bind_model(model)
    assert state.write_model(tmp_path / "base").norm == 0
    model["w"] += model["w"].dtype.type(value)

    assert state.write_delta(tmp_path / "base", tmp_path / "delta").norm == pytest.approx(norm)


def test_arrays_may_be_changed_in_place_or_replaced(tmp_path: Path) -> None:
    model: dict[str, Any] = {"kept": np.zeros(3, np.float32), "replaced": np.zeros(3, np.float32), "s": np.array(1.0)}
    state = bind_model(model)
    state.write_model(tmp_path / "base")
    state.load(tmp_path / "base")
    model["kept"] += 1
    model["replaced"] = model["replaced"] + 2
    model["s"] = model["s"] * 4
    assert isinstance(model["s"], np.float64), "arithmetic on shape () gives a scalar"

    state.write_delta(tmp_path / "base", tmp_path / "delta")

    found = safetensors.numpy.load_file(tmp_path / "delta")
    assert {name: array.tolist() for name, array in found.items()} == {"kept": [1] * 3, "replaced": [2] * 3, "s": 3}
    state.load(tmp_path / "base")
    assert model["s"] == 1
    assert model["replaced"].tolist() == [0] * 3


def test_read_only_arrays_are_replaced_on_load(tmp_path: Path) -> None:
    bind_model({"a": np.arange(4.0)}).write_model(tmp_path / "base")
    frozen = np.zeros(4)
    frozen.flags.writeable = False
    model = {"a": frozen}

    load_state(model, tmp_path / "base")

    assert model["a"].tolist() == [0, 1, 2, 3]
    assert frozen.tolist() == [0, 0, 0, 0]


def test_arrays_with_strides_keep_them(tmp_path: Path) -> None:
    wanted = np.arange(12, dtype=np.float32).reshape(3, 4).T
    bind_model({"a": wanted}).write_model(tmp_path / "base")
    np.testing.assert_array_equal(safetensors.numpy.load_file(tmp_path / "base")["a"], wanted)
    whole = np.zeros((8, 6), np.float32)
    model = {"a": whole[::2, ::2]}

    load_state(model, tmp_path / "base")

    np.testing.assert_array_equal(whole[::2, ::2], wanted)
    assert whole.sum() == wanted.sum()


@pytest.mark.parametrize(
    ("after", "complaint"),
    [
        (np.zeros((2, 3), np.float32), r"'w': expected F32\[3, 2\], got F32\[2, 3\]"),
        (np.zeros((3, 2)), r"'w': expected F32\[3, 2\], got F64\[3, 2\]"),
        ([[0.0]], "'w' is a list, not a numpy array"),
        (np.zeros((3, 2), ">f4"), "'w' has element type >f4"),
        (np.zeros((3, 2), np.complex64), "'w' has element type <c8"),
    ],
)
def test_what_training_made_of_a_tensor_is_checked(tmp_path: Path, after: Any, complaint: str) -> None:
    model: dict[str, Any] = {"w": np.zeros((3, 2), np.float32)}
    state = bind_model(model)
    state.write_model(tmp_path / "base")
    model["w"] = after

    with pytest.raises(LearnerError, match=complaint):
        state.write_delta(tmp_path / "base", tmp_path / "delta")


def test_tensors_that_training_adds_or_drops_are_named(tmp_path: Path) -> None:
    model = {"a": np.zeros(1), "b": np.zeros(1)}
    state = bind_model(model)
    state.write_model(tmp_path / "base")
    model["c"] = model.pop("b")

    with pytest.raises(ModelMismatchError, match="'b' is missing"):
        state.write_delta(tmp_path / "base", tmp_path / "delta")
    model["b"] = np.zeros(1)
    with pytest.raises(ModelMismatchError, match="'c'"):
        state.write_delta(tmp_path / "base", tmp_path / "delta")


def test_a_value_that_is_not_finite_is_named_among_small_tensors(tmp_path: Path) -> None:
    model = {f"t{i}": np.zeros(2, np.float32) for i in range(5)}
    state = bind_model(model)
    state.write_model(tmp_path / "base")
    model["t3"][1] = np.nan

    with pytest.raises(LearnerError, match="'t3' holds NaN or infinity"):
        state.write_delta(tmp_path / "base", tmp_path / "delta")


def test_overflow_while_subtracting_is_no_warning_but_an_error(tmp_path: Path) -> None:
    model = {"a": np.full(3, 3e38, np.float32)}
    state = bind_model(model)
    state.write_model(tmp_path / "base")
    model["a"] *= -1

    with pytest.raises(LearnerError, match="'a'"):
        state.write_delta(tmp_path / "base", tmp_path / "delta")


@pytest.mark.parametrize("model", [None, [1.0], np.zeros(3), "weights"])
def test_other_things_are_no_models(model: object) -> None:
    with pytest.raises(LearnerError, match=r"return a torch.nn.Module, or a dict"):
        bind_model(model)


def test_names_must_be_strings() -> None:
    with pytest.raises(LearnerError, match="strings"):
        bind_model({1: np.zeros(1)})


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"PK\x03\x04 a pickle, say")

    with pytest.raises(PayloadError, match="not a safetensors file"):
        load_state({"a": np.zeros(1)}, tmp_path / "model")
