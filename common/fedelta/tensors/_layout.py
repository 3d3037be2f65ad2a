"""Reading the header of a tensor file that may come from anywhere.

Every number in it is checked against the file's length before it is used: the safetensors library itself
accepts a shape like [2**62, 0].
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fedelta.errors import PayloadError
from fedelta.tensors._dtype import BY_LABEL
from fedelta.tensors._schema import METADATA_KEY, Schema, TensorSpec

MAX_HEADER_BYTES = 64 << 20
MAX_TENSORS = 1_000_000
MAX_NAME_LENGTH = 1024
MAX_DIMENSIONS = 64
MAX_TENSOR_BYTES = 1 << 48

_REMEMBERED_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Layout:
    """What the header of a file says."""

    schema: Schema
    metadata: Mapping[str, str]
    data_start: int
    """Where data begins, in bytes from the start of the file."""
    offsets: Mapping[str, int]
    """Where each tensor begins, in bytes from the start of the file."""
    canonical: bool
    """Whether the header is the one that `Schema.header` makes."""


def read_layout(fd: int) -> Layout:
    """Reads and checks the header of the open file. Raises `PayloadError`, which says what is wrong."""
    length = os.fstat(fd).st_size
    prefix = os.pread(fd, 8, 0)
    header_bytes = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or header_bytes > min(length - 8, MAX_HEADER_BYTES):
        raise PayloadError("not a safetensors file: its header does not fit into it")
    header = prefix + os.pread(fd, header_bytes, 8)
    check = _remembered if header_bytes <= _REMEMBERED_HEADER_BYTES else _layout
    return check(header, length - len(header))


def _layout(header: bytes, data_bytes: int) -> Layout:
    entries = _parse(header[8:])
    metadata = _metadata(entries.pop(METADATA_KEY, {}))
    if len(entries) > MAX_TENSORS:
        raise PayloadError(f"the file holds {len(entries)} tensors; at most {MAX_TENSORS} are allowed")
    spans = [(_spec(name, entry), *_span(name, entry, data_bytes)) for name, entry in entries.items()]
    _check_cover([(begin, end) for _, begin, end in spans], data_bytes)
    for spec, begin, end in spans:
        if spec.nbytes != end - begin:
            raise PayloadError(f"tensor {spec.name!r}: {spec} needs {spec.nbytes} bytes, its span has {end - begin}")
    schema = Schema.of(spec for spec, _, _ in spans)
    try:
        canonical = schema.header(metadata) == header
    except UnicodeEncodeError:
        raise PayloadError("a name in the header is not text: it holds half of a surrogate pair") from None
    return Layout(
        schema=schema,
        metadata=metadata,
        data_start=len(header),
        offsets={spec.name: len(header) + begin for spec, begin, _ in spans},
        canonical=canonical,
    )


# All files of a job have the same few headers, and with many tensors checking one takes milliseconds.
_remembered = lru_cache(maxsize=16)(_layout)


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"not a safetensors file: its header is not JSON ({error})") from None
    if not isinstance(entries, dict):
        raise PayloadError("not a safetensors file: its header is not a JSON object")
    return entries


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key appears twice")
    return found


def _metadata(found: object) -> Mapping[str, str]:
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise PayloadError(f"{METADATA_KEY} must map names to strings")
    return found


def _naturals(found: object, most: int) -> tuple[int, ...] | None:
    """A list of integers from 0 to 2^63, or None. `True` is no integer here."""
    if not isinstance(found, list) or len(found) > most:
        return None
    ok = all(type(value) is int and 0 <= value < 1 << 63 for value in found)
    return tuple(found) if ok else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _spec(name: str, entry: object) -> TensorSpec:
    if len(name) > MAX_NAME_LENGTH:
        raise PayloadError(f"a tensor's name has {len(name)} characters; at most {MAX_NAME_LENGTH} are allowed")
    if not isinstance(entry, dict):
        raise PayloadError(f"tensor {name!r}: its entry is not an object")
    dtype = BY_LABEL.get(str(entry.get("dtype")))
    if dtype is None:
        known = ", ".join(BY_LABEL)
        raise PayloadError(f"tensor {name!r} has element type {_shown(entry.get('dtype'))}; supported are {known}")
    shape = _naturals(entry.get("shape"), MAX_DIMENSIONS)
    # The zeros are left out of the product: no library can make an array of shape [2**62, 0].
    if shape is None or math.prod(size or 1 for size in shape) * dtype.width > MAX_TENSOR_BYTES:
        raise PayloadError(f"tensor {name!r}: {_shown(entry.get('shape'))} is not a shape")
    return TensorSpec(name, dtype, shape)


def _span(name: str, entry: Any, data_bytes: int) -> tuple[int, int]:
    span = _naturals(entry.get("data_offsets"), 2)
    if span is None or len(span) != 2 or not span[0] <= span[1] <= data_bytes:
        raise PayloadError(f"tensor {name!r}: its data_offsets do not lie in the file")
    return span[0], span[1]


def _check_cover(spans: list[tuple[int, int]], data_bytes: int) -> None:
    """Tensors must cover the data without gap or overlap, as the format demands."""
    at = 0
    for begin, end in sorted(spans):
        if begin != at:
            raise PayloadError("the file's tensors overlap or leave a gap")
        at = end
    if at != data_bytes:
        raise PayloadError(f"the file is {data_bytes - at} bytes longer than its tensors: cut off or padded")
