"""What parts do at the steps of torch's optimizers. Imports torch, so it is itself imported in functions only."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fedelta.errors import LearnerError
from fedelta.models import is_torch_module
from fedelta.parts import Site, Tensors


class Held(NamedTuple):
    """A parameter of the job's model that an optimizer is about to change."""

    name: str
    parameter: Parameter
    gradient: torch.Tensor
    """What the optimizer will take; to be changed in place."""


BeforeStep = Callable[[Optimizer, list[Held]], None]
"""Called before each step with the parameters that have a gradient."""


def parameters_of(site: Site, who: str) -> dict[str, Parameter]:
    """The parameters that are the job's, by the names under which they travel.

    `who` needs them. Raises `LearnerError` where the model is no torch module.
    """
    if not is_torch_module(site.model):
        raise LearnerError(
            f"{who} works at the steps of torch's optimizers, and this learner's model is no torch.nn.Module, so it "
            'would train without it; say [local] name = "plain", or take a learner with a torch model'
        )
    named = site.model.named_parameters(remove_duplicate=False)
    return {name: parameter for name, parameter in named if name in site.tensors}


@contextmanager
def before_steps(site: Site, who: str, do: BeforeStep) -> Iterator[None]:
    """Within it `do` is called before each step of an optimizer that holds parameters of the job's model.

    Raises `LearnerError` where there was none at the end, or where an optimizer does not have its gradients yet when it
    is asked to step: then `who` would train without what it is there for.
    """
    names = {id(parameter): name for name, parameter in parameters_of(site, who).items()}
    steps = 0

    def hook(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal steps
        held = _held(optimizer, names)
        if held is not None:
            _check(optimizer, args, kwargs, who)
            steps += bool(held)
            do(optimizer, held)

    handle = register_optimizer_step_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
    if steps == 0:
        raise LearnerError(
            f"{who} works at the steps of torch's optimizers, and train() made none on the parameters of the model it "
            "was given, so this would have been training without it; use a torch.optim optimizer on them, or say "
            '[local] name = "plain"'
        )


def _held(optimizer: Optimizer, names: Mapping[int, str]) -> list[Held] | None:
    """What the optimizer holds of the model and has a gradient for. None: it holds nothing of it."""
    held = [each for group in optimizer.param_groups for each in group["params"] if id(each) in names]
    if not held:
        return None
    sparse = next((each for each in held if each.grad is not None and each.grad.is_sparse), None)
    if sparse is not None:
        raise LearnerError(f"parameter {names[id(sparse)]!r} has a sparse gradient; parts of [local] need dense ones")
    return [Held(names[id(each)], each, each.grad) for each in held if each.grad is not None]


def _check(optimizer: Optimizer, args: tuple[Any, ...], kwargs: Mapping[str, Any], who: str) -> None:
    closures = [*args[1:], kwargs.get("closure")]
    if any(each is not None for each in closures):
        raise LearnerError(
            f"{who} changes gradients before a step, and {type(optimizer).__name__}.step(closure) makes them during "
            "it; call loss.backward() before step()"
        )
    if getattr(optimizer, "found_inf", None) is not None:
        raise LearnerError(
            f"{who} changes gradients before a step, and the GradScaler leaves it to {type(optimizer).__name__} to "
            "unscale them during it; make the optimizer with fused=False"
        )


def received(parameters: Mapping[str, Parameter]) -> dict[str, torch.Tensor]:
    """Copies of what the model is before it is trained."""
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def on_parameters(tensors: Tensors, parameters: Mapping[str, Parameter]) -> dict[str, torch.Tensor]:
    """Kept or shared tensors where the parameters are, in the type of their updates; zeros for what is missing."""
    return {name: _beside(parameter, tensors.get(name)) for name, parameter in parameters.items()}


def _beside(parameter: Parameter, values: Any) -> torch.Tensor:
    if values is None:
        return torch.zeros_like(parameter, dtype=update_type(parameter), requires_grad=False)
    # Of shape (), numpy's arithmetic makes scalars of arrays.
    found = torch.as_tensor(values, dtype=update_type(parameter), device=parameter.device)
    if found.shape != parameter.shape:
        raise LearnerError(
            f"what was kept or shared for a parameter of shape {list(parameter.shape)} has {list(found.shape)}: has "
            "the learner been changed since the job began?"
        )
    return found


def update_type(tensor: torch.Tensor) -> torch.dtype:
    """The type in which differences of such values travel."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
