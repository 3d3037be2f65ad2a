"""The parts of [local] that come with fedelta. torch is imported where they train."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import Meta

from fedelta.config import JobSpec
from fedelta.errors import ConfigError
from fedelta.learner import TrainResult
from fedelta.local._common import common_loop
from fedelta.parts import LocalResult, Site

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from fedelta.local._steps import Held


@dataclass(frozen=True, kw_only=True)
class Plain:
    """The learner's own training and nothing else, as in FedAvg (McMahan et al. 2017)."""

    shared: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[frozenset[str]] = frozenset()
    keeps_state: ClassVar[bool] = False

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        return LocalResult(result=site.train())


@dataclass(frozen=True, kw_only=True)
class FedProx:
    """A proximal term keeps what clients train near the model that they were given (Li et al. 2020, FedProx).

    To the local loss comes mu / 2 * |w - received|^2: before each step of an optimizer, mu * (w - received) is added to
    the gradient. The received model is held a second time in memory.
    """

    mu: Annotated[float, Meta(ge=0)]
    """The weight of the term; 0 is plain training. Its authors tried 0.001 to 1."""

    shared: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[frozenset[str]] = frozenset()
    keeps_state: ClassVar[bool] = False

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        return LocalResult(result=_proximal(site, "[local] fedprox", self.mu))


@dataclass(frozen=True, kw_only=True)
class FedNova:
    """Tells how many local steps each update is worth, so that clients may differ in that (Wang et al. 2020, FedNova).

    The aggregator "fednova" divides by it. Steps of SGD count as its momentum makes of them; of other optimizers each
    counts as one.
    """

    mu: Annotated[float, Meta(ge=0)] = 0.0
    """The weight of a proximal term, as FedProx has it; it is taken into account."""

    shared: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[frozenset[str]] = frozenset({"steps"})
    keeps_state: ClassVar[bool] = False
    requires: ClassVar[Mapping[str, tuple[str, ...]]] = {"aggregator": ("fednova",)}

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        return LocalResult(result=_proximal(site, "[local] fednova", self.mu) if self.mu else site.train())


@dataclass(frozen=True, kw_only=True)
class Scaffold:
    """Control variates take the drift out of local training (Karimireddy et al. 2020, SCAFFOLD).

    Coordinator and client each keep a control c and c_i, of the model's shape: before each step of an optimizer,
    c - c_i is added to the gradient. The client's next control is the mean of the gradients that it met on its way,
    before the correction. For plain SGD with one learning rate that equals the paper's option II,
    c_i - c + (received - w) / (steps * lr); for other optimizers it is still a mean of gradients, which that
    formula is not. The paper's global learning rate is that of the server optimizer.

    A client's control counts once its update is in the model. Updates are twice as long as the model.
    """

    shared: ClassVar[tuple[str, ...]] = ("control",)
    facts: ClassVar[frozenset[str]] = frozenset()
    keeps_state: ClassVar[bool] = True
    synchronous: ClassVar[bool] = True

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        from fedelta.local._scaffold import train

        return train(site)


@dataclass(frozen=True, kw_only=True)
class FedDyn:
    """A regularizer that each client adapts makes its optimum that of all (Acar et al. 2021, FedDyn).

    Each client keeps h_i, of the model's shape, from zero on. Before each step of an optimizer,
    alpha * (w - received) - h_i is added to the gradient; after training, alpha * (w - received) is taken from h_i.
    The server optimizer "feddyn" does the rest. A client's h_i counts once its update is in the model.
    """

    alpha: Annotated[float, Meta(gt=0)] = 0.01
    """The weight of the regularizer; the server optimizer's must be the same. Its authors used 0.001 to 0.1."""

    shared: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[frozenset[str]] = frozenset()
    keeps_state: ClassVar[bool] = True
    synchronous: ClassVar[bool] = True
    requires: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "aggregator": ("uniform",),
        "server_optimizer": ("feddyn",),
    }

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        from fedelta.local._feddyn import train

        return train(site, self.alpha)


@dataclass(frozen=True, kw_only=True)
class FedSgd:
    """Each update is minus the gradient of the mean loss over all local data (McMahan et al. 2017, FedSGD).

    The model is not trained at the clients: with the server optimizer "sgd" its lr is the learning rate. The gradient
    is added up over batches of `train.batch_size`, in evaluation mode (no dropout, BatchNorm by its averages, which
    stay as they are), since otherwise it would depend on how the data is cut into batches. It needs a learner with the
    common training loop (`fedelta.torch.TorchLearner`).
    """

    shared: ClassVar[tuple[str, ...]] = ()
    facts: ClassVar[frozenset[str]] = frozenset()
    keeps_state: ClassVar[bool] = False

    def check(self, job: JobSpec) -> None:
        """Raises `ConfigError` where the job wants more than one pass over the data."""
        epochs = job.train.get("epochs", 1)
        if epochs != 1:
            raise ConfigError(
                f"local 'fedsgd' takes one gradient over all local data, so train.epochs = {epochs!r} has no meaning "
                "with it; drop train.epochs, or take local 'plain' (FedAvg)"
            )

    def train(self, site: Site) -> LocalResult:
        """See `LocalTraining`."""
        from fedelta.local._steps import parameters_of, update_type

        who = "[local] fedsgd"
        learner = common_loop(site, who)
        parameters = parameters_of(site, who)
        found = learner.full_gradient(site.model, site.task, parameters)
        update = {name: -gradient.to(update_type(gradient)) for name, gradient in found.gradients.items()}
        return LocalResult(result=TrainResult(examples=found.examples, metrics={"loss": found.loss}), update=update)


def _proximal(site: Site, who: str, mu: float) -> TrainResult:
    """Trains with mu / 2 * |w - received|^2 in the loss."""
    from fedelta.local._steps import before_steps, parameters_of, received

    before = received(parameters_of(site, who))

    def pull(_: "Optimizer", held: "list[Held]") -> None:
        for name, parameter, gradient in held:
            gradient.add_(parameter.detach() - before[name], alpha=mu)

    with before_steps(site, who, pull):
        return site.train()
