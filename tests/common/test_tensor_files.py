"""Tensor files against the safetensors library, which is the format's reference."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open

from fedelta.errors import PayloadError
from fedelta.models import bind_model
from fedelta.tensors import MODEL_METADATA, DType, Layout, Schema, TensorSpec, read_layout, update_schema

NUMPY_TYPES = ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(lambda name: name != "__metadata__")
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)
specs = st.builds(TensorSpec, names, st.sampled_from(DType), shapes)
schemas = st.lists(specs, max_size=12, unique_by=lambda spec: spec.name).map(Schema.of)


@st.composite
def models(draw: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """Named arrays of every element type, with any bits, empty and shape-() ones too."""
    kinds = draw(st.dictionaries(names, st.tuples(st.sampled_from(NUMPY_TYPES), shapes), max_size=12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return {name: _random(rng, kind, shape) for name, (kind, shape) in kinds.items()}


def _random(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "?":
        return rng.random(shape) > 0.5 if shape else np.array(True)
    dtype = np.dtype(kind)
    raw = rng.bytes(int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(raw, dtype).reshape(shape).copy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@contextmanager
def reading(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def layout_of(path: Path) -> Layout:
    with reading(path) as fd:
        return read_layout(fd)


def layout_of_bytes(path: Path, content: bytes) -> Layout:
    path.write_bytes(content)
    return layout_of(path)


def with_header(entries: object, data: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(dtype: object, shape: object, offsets: object) -> dict[str, object]:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


@settings(deadline=None, max_examples=60)
@given(model=models())
def test_the_library_reads_what_is_written(folder: Path, model: dict[str, np.ndarray]) -> None:
    path = folder / "model.safetensors"
    bind_model(model).write_model(path)

    found = safetensors.numpy.load_file(path)

    assert found.keys() == model.keys()
    for name, array in model.items():
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


@settings(deadline=None, max_examples=60)
@given(model=models())
def test_what_the_library_writes_is_read(folder: Path, model: dict[str, np.ndarray]) -> None:
    path = folder / "library.safetensors"
    safetensors.numpy.save_file(model, path, metadata={"made": "elsewhere"})
    read = {name: np.zeros_like(array) for name, array in model.items()}

    bind_model(read).load(path)

    assert layout_of(path).metadata == {"made": "elsewhere"}
    assert {name: array.tobytes() for name, array in read.items()} == {
        name: array.tobytes() for name, array in model.items()
    }


@settings(deadline=None, max_examples=60)
@given(schema=schemas)
def test_a_header_is_canonical_aligned_and_read_back(folder: Path, schema: Schema) -> None:
    header = schema.header(MODEL_METADATA)
    layout = layout_of_bytes(folder / "h.safetensors", header + bytes(schema.data_bytes))

    assert layout.canonical
    assert layout.schema == schema
    assert layout.metadata == MODEL_METADATA
    assert layout.data_start % 64 == 0
    assert list(layout.offsets.values()) == sorted(layout.offsets.values())
    with safe_open(folder / "h.safetensors", framework="np") as file:
        assert set(file.keys()) == set(schema.by_name)
        assert file.metadata() == dict(MODEL_METADATA)


@given(schema=schemas, data=st.data())
def test_the_header_does_not_depend_on_the_order_of_tensors(schema: Schema, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(schema.tensors))

    assert Schema.of(shuffled).header({"b": "2", "a": "1"}) == schema.header({"a": "1", "b": "2"})


def test_the_header_is_this() -> None:
    """Written out: a change here changes the digest of every model there is."""
    schema = Schema.of(
        [TensorSpec("é", DType.BF16, (2, 1)), TensorSpec("b", DType.F32, ()), TensorSpec("a", DType.F32, (0,))]
    )
    text = (
        '{"__metadata__":{"fedelta.kind":"model"},"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'
        '"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"é":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}}'
    ).encode()
    padded = text.ljust(-(-(len(text) + 8) // 64) * 64 - 8)

    assert schema.header(MODEL_METADATA) == struct.pack("<Q", len(padded)) + padded


def test_updates_hold_floats_only_in_the_type_of_their_differences() -> None:
    types = {dtype.label: dtype for dtype in DType}
    model = Schema.of(TensorSpec(label, dtype, (2,)) for label, dtype in types.items())

    found = {spec.name: spec.dtype.label for spec in update_schema(model).tensors}

    assert found == {"F64": "F64", "F32": "F32", "F16": "F32", "BF16": "F32"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "header"),
        (b"\x08\x00\x00", "header"),
        (struct.pack("<Q", 2**63) + b"{}", "header"),
        (struct.pack("<Q", 100) + b"{}", "header"),
        (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "not JSON"),
        (struct.pack("<Q", 4) + b"{}{}", "not JSON"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
        (struct.pack("<Q", 15) + b'{"a":{},"a":{}}', "twice"),
        (with_header({"a": 3}), "'a'"),
        (with_header({"\ud800": one("F32", [1], [0, 4])["a"]}, bytes(4)), "surrogate"),
        (with_header({"__metadata__": {"a": "\ud800"}}), "surrogate"),
        (with_header({"__metadata__": {"a": 1}}), "__metadata__"),
        (with_header({"__metadata__": []}), "__metadata__"),
        (with_header(one("F8_E4M3", [1], [0, 1]), bytes(1)), "F8_E4M3"),
        (with_header(one(["F32"], [1], [0, 4]), bytes(4)), "element type"),
        (with_header(one("F32", [2**62, 0], [0, 0])), "not a shape"),
        (with_header(one("F32", [2**47], [0, 0])), "not a shape"),
        (with_header(one("F32", [2**40], [0, 0])), "needs"),
        (with_header(one("F32", [2**64], [0, 0])), "not a shape"),
        (with_header(one("F32", [-1], [0, 4]), bytes(4)), "not a shape"),
        (with_header(one("F32", [True], [0, 4]), bytes(4)), "not a shape"),
        (with_header(one("F32", [1.0], [0, 4]), bytes(4)), "not a shape"),
        (with_header(one("F32", [1] * 65, [0, 4]), bytes(4)), "not a shape"),
        (with_header(one("F32", [1], [4, 0]), bytes(4)), "data_offsets"),
        (with_header(one("F32", [1], [0, 8]), bytes(4)), "data_offsets"),
        (with_header(one("F32", [1], [0, 4, 4]), bytes(4)), "data_offsets"),
        (with_header(one("F32", [1], None), bytes(4)), "data_offsets"),
        (with_header(one("F32", [2], [0, 4]), bytes(4)), "needs 8 bytes"),
        (with_header(one("F32", [1], [4, 8]), bytes(8)), "gap"),
        (with_header(one("F32", [1], [0, 4]), bytes(5)), "1 bytes longer"),
        (with_header({**one("U8", [2], [0, 2]), "b": one("U8", [2], [1, 3])["a"]}, bytes(3)), "overlap"),
    ],
)
def test_a_malformed_file_is_refused_in_words(tmp_path: Path, content: bytes, complaint: str) -> None:
    with pytest.raises(PayloadError, match=complaint):
        layout_of_bytes(tmp_path / "bad", content)


def test_a_header_that_the_library_accepts_and_no_memory_could_hold_is_refused(tmp_path: Path) -> None:
    content = with_header(one("F32", [2**62, 0], [0, 0]))
    path = tmp_path / "bad"
    path.write_bytes(content)
    with safe_open(path, framework="np") as file:
        assert list(file.keys()) == ["a"]

    with pytest.raises(PayloadError, match="'a'"):
        layout_of(path)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_files_are_read_like_the_library_does_or_refused(folder: Path, data: st.DataObject) -> None:
    model = {"a": np.ones((2, 3), "f4"), "b": np.zeros(5, "i8"), "c": np.ones((), "f2")}
    content = bytearray(safetensors.numpy.save(model, {"k": "v"}))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content

    try:
        layout = layout_of_bytes(folder / "damaged", bytes(content))
    except PayloadError:
        return
    try:
        found = safetensors.numpy.load(bytes(content))
    except SafetensorError as error:  # the library is stricter about alignment of the header alone
        pytest.fail(f"the library refuses it: {error}")
    assert found.keys() == layout.schema.by_name.keys()


@given(st.binary(max_size=200))
def test_noise_is_refused(folder: Path, content: bytes) -> None:
    noise = struct.pack("<Q", len(content)) + content
    if json_object(content):
        return
    with pytest.raises(PayloadError):
        layout_of_bytes(folder / "noise", noise)


def json_object(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), dict)
    except ValueError:
        return False


def test_what_a_stranger_wrote_does_not_make_a_long_complaint(tmp_path: Path) -> None:
    for entries in (one("F32", [1] * 10_000, [0, 4]), one("F" * 10_000, [1], [0, 4]), {"a" * 10_000: 3}):
        with pytest.raises(PayloadError) as caught:
            layout_of_bytes(tmp_path / "bad", with_header(entries, bytes(4)))
        assert len(str(caught.value)) < 500


def test_difference_names_the_tensor_and_both_sides() -> None:
    job = Schema.of([TensorSpec("w", DType.F32, (10, 64)), TensorSpec("b", DType.F32, (10,))])

    def against(*tensors: TensorSpec) -> str | None:
        return job.difference(Schema.of(tensors))

    b, w = TensorSpec("b", DType.F32, (10,)), TensorSpec("w", DType.F32, (10, 64))
    assert against(w, b) is None
    assert against(b) == "tensor 'w' is missing (expected F32[10, 64])"
    assert against(b, TensorSpec("w", DType.F32, (10, 32))) == "tensor 'w': expected F32[10, 64], got F32[10, 32]"
    assert against(b, TensorSpec("w", DType.F16, (10, 64))) == "tensor 'w': expected F32[10, 64], got F16[10, 64]"
    assert against(b, w, TensorSpec("x", DType.I8, ())) == "tensor 'x' (I8[]) is not in the job's model"


@pytest.mark.parametrize("taken", [["a", "a"], ["__metadata__"]])
def test_names_are_unique_and_not_reserved(taken: list[str]) -> None:
    with pytest.raises(PayloadError, match="name"):
        Schema.of(TensorSpec(name, DType.F32, ()) for name in taken)
