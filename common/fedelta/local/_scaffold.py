"""SCAFFOLD at a client. Imports torch, so it is itself imported in functions only."""

from collections import Counter

import torch
from torch.optim import Optimizer

from fedelta.local._steps import Held, before_steps, on_parameters, parameters_of
from fedelta.parts import LocalResult, Site

CONTROL = "control"
"""What the control is called where it is shared and where it is kept."""
_WHO = "[local] scaffold"


def train(site: Site) -> LocalResult:
    """Trains with the correction c - c_i, and makes the client's next control."""
    parameters = parameters_of(site, _WHO)
    own = on_parameters(site.kept.get(CONTROL, {}), parameters)
    path = _Path(on_parameters(site.shared.get(CONTROL, {}), parameters), own)
    with before_steps(site, _WHO, path.correct):
        result = site.train()
    changes = {name: mean - own[name] for name, mean in path.means().items()}
    return LocalResult(
        result=result,
        keep={CONTROL: {**own, **path.means()}},
        shared={CONTROL: changes},
    )


class _Path:
    """The gradients that a client meets."""

    def __init__(self, control: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> None:
        self._correction = {name: control[name] - own[name] for name in own}
        self._sums: dict[str, torch.Tensor] = {}
        self._steps: Counter[str] = Counter()

    def correct(self, _: Optimizer, held: list[Held]) -> None:
        """Notes the gradients and corrects them."""
        for name, _parameter, gradient in held:
            correction = self._correction[name]
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(correction)
            self._sums[name] += gradient.detach()
            self._steps[name] += 1
            gradient.add_(correction.to(gradient.dtype))

    def means(self) -> dict[str, torch.Tensor]:
        """The mean gradient of each parameter that had one."""
        return {name: total / self._steps[name] for name, total in self._sums.items()}
