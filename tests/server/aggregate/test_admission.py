"""What is refused before it is acknowledged, and how the refusal reads."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from safetensors.numpy import save_file

from fedelta.errors import (
    DigestMismatchError,
    NotFiniteError,
    PayloadError,
    SchemaMismatchError,
    StorageError,
    WeightError,
)
from fedelta.tensors import MODEL_METADATA, UPDATE_METADATA, Schema, update_schema
from fedelta_server.aggregate import (
    Admitted,
    admit_model,
    admit_update,
    check_weight,
    file_digest,
    import_model,
    read_schema,
)
from tests.server.aggregate.tensor_files import Array, read, schema_of, write, write_model, write_update

MODEL: dict[str, Array] = {
    "fc.weight": np.zeros((300, 1000), "f4"),  # more than one block of elements
    "fc.bias": np.zeros(3, "f4"),
    "steps": np.array(3, "i8"),
    "scale": np.array(1, "f8"),
}
SCHEMA = schema_of(MODEL)


def _delta(name: str = "fc.bias", index: tuple[int, ...] = (0,), value: float = 0.5) -> dict[str, Array]:
    delta = {key: values.copy() for key, values in MODEL.items() if key != "steps"}
    delta["scale"][()] = 0
    delta[name][index] = value
    return delta


def _admit(path: Path, schema: Schema = SCHEMA) -> Admitted:
    raw = path.read_bytes()
    return admit_update(path, schema, blake3(raw).digest(), len(raw))


def _admit_delta(tmp_path: Path, delta: dict[str, Array]) -> Admitted:
    return _admit(write_update(tmp_path / "update", SCHEMA, delta))


def test_a_good_update_passes_and_its_norm_is_known(tmp_path: Path) -> None:
    delta = {
        key: np.random.default_rng(1).standard_normal(values.shape).astype(values.dtype)
        for key, values in _delta().items()
    }
    expected = np.linalg.norm(np.concatenate([values.astype("f8").ravel() for values in delta.values()]))
    assert _admit_delta(tmp_path, delta).norm == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-42, 1e15])
def test_the_norm_of_very_small_and_large_values_is_right(tmp_path: Path, size: float) -> None:
    delta = _delta()
    delta["fc.weight"][:] = size
    delta["fc.bias"][:] = 0
    expected = float(np.float32(size)) * np.sqrt(300_000)
    assert _admit_delta(tmp_path, delta).norm == pytest.approx(expected, rel=1e-4)


def test_an_update_of_zeros_passes(tmp_path: Path) -> None:
    assert _admit_delta(tmp_path, _delta(value=0)).norm == 0


@pytest.mark.parametrize(
    ("name", "index", "value", "says"),
    [
        ("fc.weight", (299, 7), np.nan, r"tensor 'fc.weight'.* at index \[299, 7\] is NaN"),
        ("fc.weight", (0, 0), np.inf, r"tensor 'fc.weight'.* at index \[0, 0\] is infinity"),
        ("fc.bias", (2,), -np.inf, r"tensor 'fc.bias'.* at index \[2\] is -infinity"),
        ("scale", (), np.nan, r"tensor 'scale': its value is NaN"),
    ],
)
def test_nan_and_infinity_are_refused_by_name(
    tmp_path: Path, name: str, index: tuple[int, ...], value: float, says: str
) -> None:
    with pytest.raises(NotFiniteError, match=says):
        _admit_delta(tmp_path, _delta(name, index, value))


@pytest.mark.parametrize("value", [1.1e18, -3e38])
def test_absurdly_large_values_are_refused_with_their_own_words(tmp_path: Path, value: float) -> None:
    with pytest.raises(
        PayloadError, match=r"fc.bias.* is -?\d.*e\+\d\d; magnitudes above 1e\+18 are refused"
    ) as caught:
        _admit_delta(tmp_path, _delta(value=value))
    assert not isinstance(caught.value, NotFiniteError)


def test_many_large_values_at_the_bound_are_not(tmp_path: Path) -> None:
    delta = _delta()
    delta["fc.weight"][:] = 9e17  # their squares sum to more than float32 holds
    assert np.isfinite(_admit_delta(tmp_path, delta).norm)


def test_float64_has_room_for_sums_of_squares_but_not_for_everything(tmp_path: Path) -> None:
    assert _admit_delta(tmp_path, _delta("scale", (), 1e139)).norm == pytest.approx(1e139)
    with pytest.raises(PayloadError, match=r"scale.* is 1.1e\+140; magnitudes above 1e\+140 are refused"):
        _admit_delta(tmp_path, _delta("scale", (), 1.1e140))


def test_the_first_bad_value_in_the_file_is_the_one_named(tmp_path: Path) -> None:
    delta = _delta("fc.weight", (250, 0), np.nan)
    delta["fc.weight"][2, 0] = np.inf
    with pytest.raises(NotFiniteError, match=r"\[2, 0\] is infinity"):
        _admit_delta(tmp_path, delta)


def _garbled(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x01")


def test_a_digest_that_differs_is_told_before_anything_else(tmp_path: Path) -> None:
    path = write_update(tmp_path / "update", SCHEMA, _delta(value=np.nan))
    digest, length = file_digest(path), path.stat().st_size
    with pytest.raises(DigestMismatchError, match=f"{length + 1} bytes were announced, {length} were received"):
        admit_update(path, SCHEMA, digest, length + 1)
    _garbled(path)
    with pytest.raises(DigestMismatchError, match=digest.hex()[:16]):
        admit_update(path, SCHEMA, digest, length)
    with pytest.raises(DigestMismatchError):  # and before the schema
        admit_update(path, schema_of({"other": np.zeros(2, "f4")}), digest, length)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"fc.weight": np.zeros((10, 2), "f4")}, r"'fc.weight': expected F32\[300, 1000\], got F32\[10, 2\]"),
        ({"fc.bias": np.zeros(3, "f8")}, r"'fc.bias': expected F32\[3\], got F64\[3\]"),
        ({"extra": np.full(2, np.nan, "f4")}, r"'extra' \(F32\[2\]\) is not in the job's model"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path: Path, tensors: dict[str, Array], says: str) -> None:
    delta = _delta() | tensors
    path = write(tmp_path / "update", schema_of(delta), UPDATE_METADATA, delta)
    with pytest.raises(SchemaMismatchError, match=says):
        _admit(path)


def test_a_missing_tensor_is_refused_by_name(tmp_path: Path) -> None:
    delta = _delta()
    del delta["fc.bias"]
    path = write(tmp_path / "update", schema_of(delta), UPDATE_METADATA, delta)
    with pytest.raises(SchemaMismatchError, match=r"'fc.bias' is missing \(expected F32\[3\]\)"):
        _admit(path)


def test_the_right_tensors_in_another_form_are_refused(tmp_path: Path) -> None:
    save_file(_delta(), tmp_path / "update", metadata={"by": "hand"})
    with pytest.raises(SchemaMismatchError, match="not in canonical form"):
        _admit(tmp_path / "update")


@pytest.mark.parametrize("raw", [b"", b"short", b"\xff" * 100, (20).to_bytes(8, "little") + b"{" * 20])
def test_what_is_no_tensor_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "update").write_bytes(raw)
    with pytest.raises(PayloadError, match="not a safetensors file"):
        _admit(tmp_path / "update")


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone: No such file"):
        admit_update(tmp_path / "gone", SCHEMA, b"", 0)


def test_weights() -> None:
    check_weight(1)
    check_weight(2**53)
    for absurd in (0, -1, 2**53 + 1):
        with pytest.raises(WeightError, match=str(absurd)):
            check_weight(absurd)


def test_a_good_model_passes(tmp_path: Path) -> None:
    path = tmp_path / "model"
    write_model(path, MODEL)
    layout = admit_model(path, file_digest(path), path.stat().st_size)
    assert layout.schema == read_schema(path) == SCHEMA
    assert layout.metadata == MODEL_METADATA


def test_a_model_is_checked_for_transfer_form_and_content(tmp_path: Path) -> None:
    path = write(tmp_path / "model", update_schema(SCHEMA), UPDATE_METADATA, _delta())
    with pytest.raises(SchemaMismatchError, match="canonical"):
        admit_model(path, file_digest(path), path.stat().st_size)
    with pytest.raises(DigestMismatchError):
        admit_model(path, bytes(32), path.stat().st_size)
    write_model(path, {"n": np.zeros(3, "i8")})
    with pytest.raises(PayloadError, match="nothing to train"):
        admit_model(path, file_digest(path), path.stat().st_size)


@pytest.mark.parametrize(
    ("name", "values"),
    [("half", np.array([1, np.inf], "f2")), ("brain", np.array([0x3F80, 0x7F80], "u2"))],
)
def test_infinity_is_found_in_half_precision_models(tmp_path: Path, name: str, values: Array) -> None:
    path = tmp_path / "model"
    write_model(path, {"fc": np.ones(2, "f4"), name: values}, frozenset({"brain"}) & {name})
    with pytest.raises(NotFiniteError, match=rf"'{name}'.*\[1\] is infinity"):
        admit_model(path, file_digest(path), path.stat().st_size)


def test_import_makes_the_canonical_file_of_any_order_and_metadata(tmp_path: Path) -> None:
    tensors = {"z": np.arange(400_000, dtype="f4"), "a": np.ones((2, 2), "f2"), "n": np.array(5, "i8")}
    save_file(tensors, tmp_path / "by-library", metadata={"format": "pt", "epoch": "3"})
    # The same by hand, tensors in the opposite order of what canonical form asks for.
    header, data = {}, b""
    for name, label in (("a", "F16"), ("z", "F32"), ("n", "I64")):
        raw = tensors[name].tobytes()
        span = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": label, "shape": list(tensors[name].shape), "data_offsets": span}
        data += raw
    text = json.dumps(header).encode()
    (tmp_path / "by-hand").write_bytes(len(text).to_bytes(8, "little") + text + data)
    write_model(tmp_path / "expected", tensors)
    for source in ("by-library", "by-hand"):
        digest, length = import_model(tmp_path / source, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()
        assert admit_model(tmp_path / "out", digest, length).canonical
    np.testing.assert_array_equal(read(tmp_path / "out", schema_of(tensors))["z"], tensors["z"])


def test_import_names_the_tensor_that_is_not_finite_in_any_order(tmp_path: Path) -> None:
    tensors = {"b": np.ones(4, "f4"), "a": np.array([1, 2, np.nan], "f8"), "c": np.ones(4, "f2")}
    save_file(tensors, tmp_path / "source")
    with pytest.raises(NotFiniteError, match=r"'a'.*\[2\] is NaN"):
        import_model(tmp_path / "source", tmp_path / "out")
    assert not (tmp_path / "out").exists()
