"""Who trains by the common loop."""

import sys
from typing import TYPE_CHECKING, Any

from fedelta.errors import LearnerError
from fedelta.parts import Site

if TYPE_CHECKING:
    from fedelta.torch import TorchLearner


def common_loop(site: Site, who: str) -> "TorchLearner":
    """The site's learner, if it trains by the common loop. Raises `LearnerError` saying why `who` needs that."""
    # Who derives from it has imported its module.
    module: Any = sys.modules.get("fedelta.torch")
    name = type(site.learner).__name__
    if module is None or not isinstance(site.learner, module.TorchLearner):
        raise LearnerError(
            f"{who} needs to know the learner's loss and data, and {name} only has train(); derive it from "
            "fedelta.torch.TorchLearner and give it dataset() and loss()"
        )
    if type(site.learner).train is not module.TorchLearner.train:
        raise LearnerError(
            f"{who} needs the common training loop, and {name} has a train() of its own: nobody knows whether what "
            "that does is to follow the gradient of loss(). Leave train() to fedelta.torch.TorchLearner"
        )
    learner: TorchLearner = site.learner
    return learner
