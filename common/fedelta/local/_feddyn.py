"""FedDyn at a client. Imports torch, so it is itself imported in functions only."""

from torch.optim import Optimizer

from fedelta.local._steps import Held, before_steps, on_parameters, parameters_of, received
from fedelta.parts import LocalResult, Site

GRADIENT = "gradient"
"""What h_i is called where it is kept: it converges to the gradient of the local loss."""
_WHO = "[local] feddyn"


def train(site: Site, alpha: float) -> LocalResult:
    """Trains with the client's regularizer, and adapts it."""
    parameters = parameters_of(site, _WHO)
    own, before = on_parameters(site.kept.get(GRADIENT, {}), parameters), received(parameters)

    def regularize(_: Optimizer, held: list[Held]) -> None:
        for name, parameter, gradient in held:
            gradient.add_(parameter.detach() - before[name], alpha=alpha).sub_(own[name].to(gradient.dtype))

    with before_steps(site, _WHO, regularize):
        result = site.train()
    adapted = {name: own[name] - alpha * (each.detach() - before[name]) for name, each in parameters.items()}
    return LocalResult(result=result, keep={GRADIENT: adapted})
