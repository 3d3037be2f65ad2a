"""What a plan shares beside the model: read from its file, and put into an update."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedelta.models import Given, on_cpu, read_arrays
from fedelta.parts import LocalResult, Tensors
from fedelta.tensors import grouped, shared_group


def read_shared(path: Path | None, names: Sequence[str]) -> dict[str, Tensors]:
    """The shared tensors of each name, from the file that came with the model. None: all of them are zeros.

    Raises `PayloadError` where the file is malformed.
    """
    if path is None or not names:
        return {name: {} for name in names}
    arrays = read_arrays(path)
    return {name: _group(arrays, grouped(shared_group(name), "")) for name in names}


def given_by(done: LocalResult, shared: Sequence[str], tensors: frozenset[str]) -> Given:
    """The differences of an update that a part gives instead of leaving them to subtraction."""
    given: dict[str, Any] = {}
    if done.update is not None:
        given |= {name: _array(name, done.update.get(name)) for name in tensors}
    for name in shared:
        changes = done.shared.get(name, {})
        group = shared_group(name)
        given |= {grouped(group, tensor): _array(tensor, changes.get(tensor)) for tensor in tensors}
    return given


def _group(arrays: Tensors, before: str) -> Tensors:
    return {name.removeprefix(before): array for name, array in arrays.items() if name.startswith(before)}


def _array(name: str, values: Any) -> Any:
    return None if values is None else np.asarray(on_cpu(name, values))
