"""Parts of [local] on learners as people write them: what they add to which steps, and what they refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.optim import optimizer as optimizers
from torch.utils.data import Dataset, TensorDataset

from fedelta import Learner, Task, TrainResult
from fedelta.errors import LearnerError
from fedelta.execution import Workbench
from fedelta.local import ClientPlan, read_plan
from fedelta.torch import TorchLearner
from tests.plans.federation import Federation
from tests.plans.quadratics import Descending, Point

PROX = ClientPlan(local={"name": "fedprox", "mu": 1.0})
PARTS = [
    PROX,
    ClientPlan(local={"name": "scaffold"}),
    ClientPlan(local={"name": "feddyn"}),
    ClientPlan(facts=("steps",)),
]


class Custom(Learner):
    """Trains as it is told."""

    def __init__(self, train: Callable[[Any, Task], None], model: Callable[[], Any] = Point) -> None:
        self._train, self._model = train, model

    def model(self) -> Any:
        return self._model()

    def train(self, model: Any, task: Task) -> TrainResult:
        self._train(model, task)
        return TrainResult(examples=1)


def trained(learner: Learner, folder: Path, plan: ClientPlan, config: Any = None) -> dict[str, np.ndarray]:
    """The update of one assignment."""
    bench = Workbench(learner)
    bench.initialize(Task(), folder / "model", plan=plan)
    bench.train(Task(config=config or {}), folder / "model", folder / "update", plan=plan)
    return load_file(folder / "update")


def steps_of(learner: Learner, folder: Path, plan: ClientPlan) -> float:
    """The fact "steps" of one assignment."""
    bench = Workbench(learner)
    bench.initialize(Task(), folder / "model")
    return bench.train(Task(), folder / "model", folder / "update", plan=plan).facts["steps"]


def no_step(model: Any, _task: Task) -> None:
    with torch.no_grad():
        model.x += 1


def step_of_a_copy(model: Any, _task: Task) -> None:
    other = Point()
    other.x.grad = torch.ones(1, dtype=torch.float64)
    torch.optim.SGD(other.parameters(), lr=1).step()
    model.load_state_dict(other.state_dict())


def step_by_closure(model: Any, _task: Task) -> None:
    def closure() -> float:
        model.x.grad = 2 * model.x.detach()
        return float(model.x**2)

    torch.optim.LBFGS(model.parameters()).step(closure)  # type: ignore[no-untyped-call]  # torch leaves it untyped


def step_without_gradient(model: Any, _task: Task) -> None:
    torch.optim.SGD(model.parameters(), lr=1).step()


def no_hooks_are_left() -> bool:
    return not optimizers._global_optimizer_pre_hooks and not optimizers._global_optimizer_post_hooks


@pytest.mark.parametrize("plan", PARTS)
@pytest.mark.parametrize(
    ("train", "complaint"),
    [
        (no_step, r"made none on the parameters of the model it was given.*\[local\] name = \"plain\""),
        (step_of_a_copy, "made none on the parameters of the model"),
        (step_without_gradient, "made none on the parameters of the model"),
        (step_by_closure, r"LBFGS.step\(closure\) makes them during it; call loss.backward\(\) before step\(\)"),
    ],
)
def test_a_part_that_finds_no_step_does_not_train_without_it(
    tmp_path: Path, plan: ClientPlan, train: Any, complaint: str
) -> None:
    with pytest.raises(LearnerError, match=complaint) as caught:
        trained(Custom(train), tmp_path, plan)
    assert plan.part_name in str(caught.value) or '"steps"' in str(caught.value)
    assert no_hooks_are_left()


@pytest.mark.parametrize("plan", PARTS)
def test_a_model_of_arrays_has_no_steps(tmp_path: Path, plan: ClientPlan) -> None:
    learner = Custom(lambda _model, _task: None, lambda: {"w": np.zeros(2)})
    with pytest.raises(LearnerError, match=r"no torch.nn.Module, so it would train without it"):
        trained(learner, tmp_path, plan)


def test_hooks_are_gone_when_the_learner_raises(tmp_path: Path) -> None:
    def broken(model: Any, task: Task) -> None:
        Descending(lambda x: x, 1).train(model, task)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trained(Custom(broken), tmp_path, PROX)
    assert no_hooks_are_left()


def test_what_is_not_the_jobs_model_is_left_alone(tmp_path: Path) -> None:
    """A learner may train something of its own beside the model, such as a discriminator."""
    seen = []

    def beside(model: Any, task: Task) -> None:
        own = Point(5.0)
        optimizer = torch.optim.SGD(own.parameters(), lr=1)
        for _ in range(2):
            own.x.grad = torch.ones(1, dtype=torch.float64)
            optimizer.step()
        seen.append(own.x.item())
        Descending(lambda x: x + 1, 2, lr=0.5).train(model, task)

    update = trained(Custom(beside), tmp_path, ClientPlan(local={"name": "fedprox", "mu": 1.0}))
    assert seen == [3.0]
    # From 0: -0.5, then -0.5 * (0.5 + the pull of -0.5) more.
    assert update["x"].tolist() == [-0.5]


def adam_with_term(mu: float, steps: int) -> float:
    """Where Adam goes on (x - 3)^2 / 2 + mu / 2 * x^2 from 0."""
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([x], lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        ((x - 3) ** 2 / 2 + mu / 2 * x**2).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return x.item()


def test_the_proximal_term_is_what_it_would_be_in_the_loss(tmp_path: Path) -> None:
    def train(model: Any, _task: Task) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(7):
            optimizer.zero_grad()
            model.x.grad = model.x.detach() - 3
            optimizer.step()

    assert trained(Custom(train), tmp_path, PROX)["x"][0] == pytest.approx(adam_with_term(1.0, 7), rel=1e-12)


def scaled(model: Any, fused: bool) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, fused=fused)
    for _ in range(2):
        optimizer.zero_grad()
        scaler.scale((model.x + model.x**2 / 2).sum()).backward()
        scaler.step(optimizer)
        scaler.update()


def test_gradients_are_adjusted_after_they_were_unscaled(tmp_path: Path) -> None:
    update = trained(Custom(lambda model, _: scaled(model, fused=False)), tmp_path, PROX)
    # From 0: -0.5, then -0.5 * (1 - 0.5 + the pull of -0.5) more.
    assert update["x"].tolist() == [-0.5]


def test_an_optimizer_that_unscales_during_its_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match="make the optimizer with fused=False"):
        trained(Custom(lambda model, _: scaled(model, fused=True)), tmp_path, PROX)
    assert no_hooks_are_left()


def test_a_sparse_gradient_is_named(tmp_path: Path) -> None:
    def train(model: Any, _task: Task) -> None:
        model(torch.tensor([1])).sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()

    with pytest.raises(LearnerError, match="parameter 'weight' has a sparse gradient"):
        trained(Custom(train, lambda: nn.Embedding(3, 2, sparse=True)), tmp_path, PROX)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 5.0),
        # Wang et al. 2020, section 4: (tau - rho * (1 - rho^tau) / (1 - rho)) / (1 - rho) with rho = 0.9, tau = 5.
        ({"momentum": 0.9}, (5 - 0.9 * (1 - 0.9**5) / 0.1) / 0.1),
        # Each step is the gradient and rho times the velocity, which is 1, 1.5, 1.75, 1.875, 1.9375.
        ({"momentum": 0.5, "nesterov": True}, 5 + 0.5 * (1 + 1.5 + 1.75 + 1.875 + 1.9375)),
        ({"weight_decay": 0.1}, 5.0),
    ],
)
def test_effective_steps_of_sgd(tmp_path: Path, options: dict[str, Any], expected: float) -> None:
    found = steps_of(Descending(lambda x: x - 1, 5, **options), tmp_path, ClientPlan(facts=("steps",)))
    assert found == pytest.approx(expected, rel=1e-12)


def test_effective_steps_under_a_proximal_term(tmp_path: Path) -> None:
    """Wang et al. 2020, section 4: a_k = (1 - lr * mu)^(tau - k), so the sum is (1 - (1 - lr * mu)^tau) / (lr * mu)."""
    plan = ClientPlan(local={"name": "fednova", "mu": 2.0}, facts=("steps",))
    found = steps_of(Descending(lambda x: x - 1, 5, lr=0.1), tmp_path, plan)
    assert found == pytest.approx((1 - 0.8**5) / 0.2, rel=1e-12)


def test_every_step_of_an_adaptive_optimizer_counts_as_one(tmp_path: Path) -> None:
    def train(model: Any, _task: Task) -> None:
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1, betas=(0.9, 0.99))
        for _ in range(4):
            model.x.grad = torch.ones(1, dtype=torch.float64)
            optimizer.step()

    assert steps_of(Custom(train), tmp_path, ClientPlan(facts=("steps",))) == 4


def test_a_step_counts_in_proportion_to_its_learning_rate(tmp_path: Path) -> None:
    def train(model: Any, _task: Task) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.4)
        for rate in (0.4, 0.2, 0.1):
            optimizer.param_groups[0]["lr"] = rate
            model.x.grad = torch.ones(1, dtype=torch.float64)
            optimizer.step()

    assert steps_of(Custom(train), tmp_path, ClientPlan(facts=("steps",))) == pytest.approx(1.75)


class Pair(nn.Module):
    """Two layers, 3 and 1 values."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(1))


def test_where_layers_step_unequally_the_mean_over_values_counts(tmp_path: Path) -> None:
    def train(model: Any, _task: Task) -> None:
        for parameter, steps in ((model.a, 2), (model.b, 6)):
            optimizer = torch.optim.SGD([parameter], lr=0.1)
            for _ in range(steps):
                parameter.grad = torch.ones_like(parameter)
                optimizer.step()

    assert steps_of(Custom(train, Pair), tmp_path, ClientPlan(facts=("steps",))) == 3


def test_a_layer_without_gradient_keeps_its_control(tmp_path: Path) -> None:
    def train(model: Any, _task: Task) -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.a.grad = torch.full((3,), 2.0)
        optimizer.step()

    federation = Federation(
        tmp_path, {"a": Custom(train, Pair), "b": Custom(train, Pair)}, '[local]\nname = "scaffold"'
    )
    federation.round()
    assert load_file(federation.update("a"))["shared.control/a"].tolist() == [2, 2, 2]
    assert load_file(federation.update("a"))["shared.control/b"].tolist() == [0]
    assert load_file(federation.state("a"))["scaffold.control/b"].tolist() == [0]
    federation.round()
    assert federation.shared["shared.control/a"].tolist() == [2, 2, 2]
    assert load_file(federation.update("a"))["shared.control/a"].tolist() == [0, 0, 0]


class Regression(TorchLearner):
    """Least squares on points of its own; float64."""

    def __init__(self, seed: int = 0, examples: int = 7) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(examples, 3, dtype=torch.float64, generator=generator)
        self.y = torch.randn(examples, dtype=torch.float64, generator=generator)

    def model(self) -> nn.Module:
        return nn.Linear(3, 1, dtype=torch.float64)

    def dataset(self) -> Dataset[Any]:
        return TensorDataset(self.x, self.y)

    def loss(self, model: nn.Module, batch: Any) -> torch.Tensor:
        inputs, targets = batch
        return torch.nn.functional.mse_loss(model(inputs).squeeze(1), targets)


SGD = """
[local]
name = "fedsgd"
[aggregator]
name = "uniform"
[server_optimizer]
name = "sgd"
lr = 0.2
[train]
"""


@pytest.mark.parametrize("batch", ["batch_size = 2", 'batch_size = "all"', ""])
def test_fedsgd_is_gradient_descent_on_the_mean_of_the_clients_losses(tmp_path: Path, batch: str) -> None:
    """W <- W - lr * 1/C * sum of each client's 1/N * sum of the gradients of its examples (McMahan et al. 2017)."""
    clients = {"a": Regression(1, 7), "b": Regression(2, 4), "c": Regression(3, 11)}
    federation = Federation(tmp_path, clients, SGD + batch)
    weight, bias = (torch.tensor(federation.model[name], requires_grad=True) for name in ("weight", "bias"))
    for _ in range(20):
        federation.round()
        losses = [((each.x @ weight[0] + bias - each.y) ** 2).mean() for each in clients.values()]
        gradients = torch.autograd.grad(torch.stack(losses).mean(), (weight, bias))
        with torch.no_grad():
            weight -= 0.2 * gradients[0]
            bias -= 0.2 * gradients[1]
    assert np.abs(federation.model["weight"] - weight.detach().numpy()).max() < 1e-14
    assert np.abs(federation.model["bias"] - bias.detach().numpy()).max() < 1e-14


class Normalized(Regression):
    """Has dropout and BatchNorm, on which the gradient must not depend on the batches."""

    def model(self) -> nn.Module:
        layers = (nn.Dropout(0.5), nn.BatchNorm1d(3, dtype=torch.float64), nn.Linear(3, 1, dtype=torch.float64))
        return nn.Sequential(*layers)


def test_the_full_gradient_does_not_depend_on_batches(tmp_path: Path) -> None:
    plan = ClientPlan(local={"name": "fedsgd"})
    found = [trained(Normalized(), tmp_path, plan, {"batch_size": size}) for size in (1, 3, "all")]
    for name, update in found[0].items():
        for other in found[1:]:
            np.testing.assert_allclose(other[name], update, rtol=1e-13, atol=1e-15)
    assert found[0]["1.running_mean"].tolist() == [0, 0, 0]
    assert np.abs(found[0]["2.weight"]).min() > 0


class OwnTrain(Regression):
    """Has a loop of its own."""

    def train(self, model: Any, task: Task) -> TrainResult:
        return super().train(model, task)


class Dropping(Regression):
    """Leaves out the last examples."""

    def loader(self, task: Task, *, shuffle: bool = True) -> Any:
        loader = super().loader(task, shuffle=shuffle)
        return torch.utils.data.DataLoader(loader.dataset, 2, drop_last=True)


@pytest.mark.parametrize("plan", [ClientPlan(local={"name": "fedsgd"}), ClientPlan(facts=("loss",))])
@pytest.mark.parametrize(
    ("learner", "complaint"),
    [
        (OwnTrain(), r"OwnTrain has a train\(\) of its own"),
        (Descending(lambda x: x, 1), r"Descending only has train\(\); derive it from fedelta.torch.TorchLearner"),
        (Dropping(), "gave 6 of 7 examples; all are needed here"),
        (Regression(examples=0), r"dataset\(\) is empty"),
    ],
)
def test_who_has_no_common_loop_is_told_so(tmp_path: Path, plan: ClientPlan, learner: Learner, complaint: str) -> None:
    with pytest.raises(LearnerError, match=complaint):
        trained(learner, tmp_path, plan, {"lr": 0.1})


def test_the_loss_is_that_of_the_received_model_and_changes_nothing(tmp_path: Path) -> None:
    learner = Normalized(examples=8)
    bench, config = Workbench(learner), {"lr": 0.1, "epochs": 2, "batch_size": 4}
    bench.initialize(Task(seed=3), tmp_path / "model")
    plain = bench.train(Task(seed=5, config=config), tmp_path / "model", tmp_path / "plain")
    asked = bench.train(
        Task(seed=5, config=config), tmp_path / "model", tmp_path / "asked", plan=ClientPlan(facts=("loss",))
    )
    assert plain.facts == {}
    # In evaluation mode BatchNorm is still the identity, but for its epsilon.
    received = load_file(tmp_path / "model")
    outputs = learner.x.numpy() / np.sqrt(1 + 1e-5) @ received["2.weight"][0] + received["2.bias"]
    assert asked.facts == {"loss": pytest.approx(((outputs - learner.y.numpy()) ** 2).mean(), rel=1e-12)}
    assert asked.written.digest == plain.written.digest


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            '{"local": {"name": "fedporx"}}',
            "this client cannot train as the job's .* 'fedporx' is not known; did you mean",
        ),
        ('{"local": {"name": "fedprox"}}', "mu is missing"),
        ('{"facts": ["mood"]}', "cannot tell 'mood' of an update; is fedelta too old here"),
        ('{"telepathy": true}', "cannot read the job's plan .*telepathy.* is fedelta too old here"),
    ],
)
def test_a_plan_that_this_client_cannot_do_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(LearnerError, match=complaint):
        trained(Descending(lambda x: x, 1), tmp_path, read_plan(text))
