"""Named arrays that are no model, such as what a learner keeps from one assignment to the next."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedelta.errors import LearnerError
from fedelta.models._bind import bind_model
from fedelta.models._cells import Array, Source
from fedelta.models._files import opened
from fedelta.models._numpy import ArraySource
from fedelta.tensors import DType, TensorSpec, read_layout


def array_source(named: Mapping[str, Any]) -> Source:
    """Numpy arrays or torch tensors by name. Raises `LearnerError` naming one that cannot be kept."""
    if not isinstance(named, Mapping):
        raise LearnerError(f"got a {type(named).__name__}; return a dict of names to numpy arrays or torch tensors")
    return ArraySource({name: on_cpu(name, value) for name, value in named.items()})


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a file, in memory of their own. Raises `PayloadError` where it is malformed."""
    with opened(path) as fd:
        arrays = {spec.name: _room(spec) for spec in read_layout(fd).schema.tensors}
    bind_model(arrays).load(path)
    return arrays


def _room(spec: TensorSpec) -> Array:
    return np.empty(spec.shape, np.bool_ if spec.dtype is DType.BOOL else spec.dtype.storage)


def on_cpu(name: object, value: Any) -> Any:
    """A torch tensor as a numpy array; anything else as it is. torch is asked only where it is loaded."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    try:
        return value.detach().cpu().numpy()
    except (TypeError, RuntimeError, NotImplementedError):
        kind = f"{value.dtype}, {value.layout} on {value.device}"
        raise LearnerError(f"tensor {name!r} ({kind}) has no numpy counterpart; convert it, say to float32") from None
