"""Finds out what kind of model a learner has made."""

import sys
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from fedelta.errors import LearnerError
from fedelta.models._cells import Source
from fedelta.models._numpy import ArraySource
from fedelta.models._state import BlockState, ModelState

if TYPE_CHECKING:
    import torch
    from typing_extensions import TypeIs


def is_torch_module(model: object) -> "TypeIs[torch.nn.Module]":
    """Whether `model` is a `torch.nn.Module`. Does not import torch: without it nothing can be one."""
    loaded: Any = sys.modules.get("torch")
    return loaded is not None and isinstance(model, loaded.nn.Module)


def bind_model(model: object) -> ModelState:
    """Binds a torch module, or a mutable mapping of names to numpy arrays.

    Raises `LearnerError` where `model` is neither, or naming a tensor that cannot travel.
    """
    return BlockState(source_of(model))


def source_of(model: object) -> Source:
    """The tensors of a model. Raises `LearnerError` where it is none."""
    if is_torch_module(model):
        from fedelta.models._torch import ModuleSource

        return ModuleSource(model)
    if isinstance(model, MutableMapping):
        return ArraySource(model)
    raise LearnerError(
        f"model() returned a {type(model).__name__}; return a torch.nn.Module, or a dict of names to numpy arrays"
    )
