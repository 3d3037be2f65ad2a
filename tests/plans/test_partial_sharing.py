"""Tensors that are not part of the job's model: personal ones, and those that nobody trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn

from fedelta import EvalResult, Learner, Task, TrainResult, load_state
from fedelta.errors import LearnerError, ModelMismatchError
from fedelta.execution import StateFiles, Workbench, initialize
from fedelta.local import ClientPlan
from tests.plans.federation import Federation


class Headed(nn.Module):
    """A body with BatchNorm, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.bn, self.head = nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1)


class Adding(Learner):
    """Adds a number of its own to everything, and reports the sum of its head."""

    def __init__(self, add: float, build: Any = Headed) -> None:
        self._add, self._build = add, build
        self.begun: list[dict[str, torch.Tensor]] = []

    def model(self) -> nn.Module:
        built: nn.Module = self._build()
        return built

    def train(self, model: nn.Module, task: Task) -> TrainResult:  # noqa: ARG002
        state = model.state_dict()
        self.begun.append({name: value.clone() for name, value in state.items()})
        with torch.no_grad():
            for value in state.values():
                value += torch.as_tensor(self._add).to(value.dtype)
        return TrainResult(examples=1)

    def evaluate(self, model: Any, task: Task) -> EvalResult:  # noqa: ARG002
        return EvalResult(examples=1, metrics={"head": model.head.bias.item()})


def test_personal_tensors_stay_at_their_clients(tmp_path: Path) -> None:
    clients = {"a": Adding(1.0), "b": Adding(3.0)}
    federation = Federation(tmp_path, clients, model_table='personal = ["head.*", "*bn*"]')
    federation.rounds(2)

    assert federation.model.keys() == load_file(federation.update("a")).keys() == {"body.bias", "body.weight"}
    torch.manual_seed(7)  # the job's
    built = Headed().state_dict()
    for learner, add in ((clients["a"], 1.0), (clients["b"], 3.0)):
        first, second = learner.begun
        for name, value in built.items():
            torch.testing.assert_close(first[name], value)
            moved = 2.0 if name.startswith("body") else add
            torch.testing.assert_close(second[name], value + torch.as_tensor(moved).to(value.dtype))


def test_evaluation_sees_what_the_client_keeps(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {"a": Adding(1.0), "b": Adding(3.0)}, model_table='personal = ["head.*"]')
    before = federation.evaluate("a").metrics["head"]
    assert before == federation.evaluate("b").metrics["head"]
    federation.round()
    assert federation.evaluate("a").metrics["head"] == pytest.approx(before + 1)
    assert federation.evaluate("b").metrics["head"] == pytest.approx(before + 3)


def test_what_was_not_promoted_is_forgotten(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {"a": Adding(1.0)}, model_table='personal = ["head.*"]')
    before = federation.evaluate("a").metrics["head"]
    federation.train("a")
    assert federation.evaluate("a").metrics["head"] == before


class Remembering(Adding):
    """Keeps a state of its own beside its personal tensors, though not every time."""

    def __init__(self) -> None:
        super().__init__(1.0)
        self.got: list[dict[str, Any]] = []

    def load_durable_state(self, state: Any) -> None:
        self.got.append({name: value.tolist() for name, value in state.items()})

    def durable_state(self) -> Any:
        return {"head.bias": np.arange(2)} if len(self.got) == 1 else None


def test_a_learners_own_state_is_beside_its_personal_tensors(tmp_path: Path) -> None:
    learner = Remembering()
    federation = Federation(tmp_path, {"a": learner}, model_table='personal = ["head.*"]')
    federation.rounds(3)
    assert learner.got == [{}, {"head.bias": [0, 1]}, {"head.bias": [0, 1]}]
    assert {"learner/head.bias", "personal/head.bias", "personal/head.weight"} == set(load_file(federation.state("a")))


def test_a_state_from_before_there_were_sections_is_the_learners(tmp_path: Path) -> None:
    learner = Remembering()
    bench = Workbench(learner)
    bench.initialize(Task(), tmp_path / "model")
    save_file({"a/b": np.ones(2), "c": np.zeros(1)}, tmp_path / "old", {"fedelta.kind": "model"})
    files = StateFiles(load=tmp_path / "old", save=tmp_path / "new")
    bench.train(Task(), tmp_path / "model", tmp_path / "update", state=files)
    assert learner.got == [{"a/b": [1, 1], "c": [0]}]


class Arrays(Adding):
    """Has no torch in its model."""

    def model(self) -> Any:
        return {"body": np.zeros(2, np.float32), "head": np.ones(1), "mask": np.array([True])}

    def train(self, model: Any, task: Task) -> TrainResult:  # noqa: ARG002
        model["body"], model["head"] = model["body"] + np.float32(self._add), model["head"] + self._add
        model["mask"] = ~model["mask"]
        return TrainResult(examples=1, metrics={"head": model["head"][0], "mask": float(model["mask"][0])})


def test_arrays_may_be_personal_too(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {"a": Arrays(1.0), "b": Arrays(3.0)}, model_table='personal = ["head", "mask"]')
    federation.rounds(2)
    assert {name: value.tolist() for name, value in federation.model.items()} == {"body": [4, 4]}
    assert federation.train("b").metrics == {"head": 10.0, "mask": 0.0}


class Adapted(nn.Module):
    """A frozen body with BatchNorm, and an adapter with BatchNorm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.frozen = nn.Linear(2, 2), nn.BatchNorm1d(2)
        self.adapter, self.bn = nn.Linear(2, 1), nn.BatchNorm1d(1)
        for part in (self.body, self.frozen):
            part.requires_grad_(False)


class Running(Adding):
    """Runs its model, as training does: that changes the averages of BatchNorm."""

    def train(self, model: Any, task: Task) -> TrainResult:  # noqa: ARG002
        self.begun.append({name: value.clone() for name, value in model.state_dict().items()})
        optimizer = torch.optim.SGD([each for each in model.parameters() if each.requires_grad], lr=0.1)
        model.bn(
            model.adapter(model.frozen(model.body(torch.ones(4, 2) + torch.arange(8.0).view(4, 2))))
        ).sum().backward()
        optimizer.step()
        return TrainResult(examples=1)


def test_only_what_is_trained_travels(tmp_path: Path) -> None:
    learner = Running(0.0, Adapted)
    federation = Federation(tmp_path, {"a": learner, "b": Running(0.0, Adapted)}, model_table='tensors = "trainable"')
    federation.rounds(2)
    travel = {"adapter.bias", "adapter.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.weight"}
    assert load_file(federation.update("a")).keys() == travel
    assert federation.model.keys() == {*travel, "bn.num_batches_tracked"}
    torch.manual_seed(7)  # the job's
    built = Adapted().state_dict()
    for begun in learner.begun:
        for name in built.keys() - federation.model.keys():
            torch.testing.assert_close(begun[name], built[name], msg=name)


def test_what_nobody_trains_must_stay_as_it_is(tmp_path: Path) -> None:
    """It does not travel, so the clients' models would differ and nobody would see it."""

    class Thawing(Running):
        def train(self, model: Any, task: Task) -> TrainResult:
            if len(self.begun) == 1:
                with torch.no_grad():
                    model.body.weight.mul_(2)
            return super().train(model, task)

    learner = Thawing(0.0, Adapted)
    federation = Federation(tmp_path, {"a": learner}, model_table='tensors = "trainable"')
    federation.round()
    with pytest.raises(LearnerError, match=r"train\(\) changed 'body.weight'.*requires_grad"):
        federation.round()
    federation.round()
    torch.testing.assert_close(learner.begun[2]["body.weight"], learner.begun[0]["body.weight"])


def test_a_first_client_and_model_init_make_the_same_file(tmp_path: Path) -> None:
    plan = ClientPlan(tensors="trainable", seed=7)
    Workbench(Running(0.0, Adapted)).initialize(Task(seed=7), tmp_path / "one", plan=plan)
    initialize(Running(0.0, Adapted), Task(seed=7), tmp_path / "two", plan=plan)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


class Tied(nn.Module):
    """Its head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
        self.head.weight = self.embedding.weight


@pytest.mark.parametrize(
    ("build", "plan", "complaint"),
    [
        (Headed, {"personal": ("heda.*",)}, r"'heda\.\*' matches no tensor of the learner's model; it has bn.bias, "),
        (Headed, {"personal": ("*",)}, "leave no tensor of the learner's model to the job"),
        (Tied, {"personal": ("head.*",)}, "'head.weight', which is one tied tensor with 'embedding.weight'"),
        (lambda: {"w": np.zeros(2)}, {"tensors": "trainable"}, 'model.tensors = "trainable" needs a torch.nn.Module'),
    ],
)
def test_what_cannot_be_taken_apart_is_named(tmp_path: Path, build: Any, plan: Any, complaint: str) -> None:
    with pytest.raises(LearnerError, match=complaint):
        Workbench(Adding(1.0, build)).initialize(Task(), tmp_path / "model", plan=ClientPlan(**plan))


def test_a_tied_tensor_may_be_personal_under_all_its_names(tmp_path: Path) -> None:
    class More(Tied):
        def __init__(self) -> None:
            super().__init__()
            self.more = nn.Linear(1, 1)

    federation = Federation(tmp_path, {"a": Adding(1.0, More)}, model_table='personal = ["head.*", "embedding.*"]')
    federation.rounds(2)
    assert federation.model.keys() == {"more.bias", "more.weight"}


def test_a_whole_model_is_refused_where_some_of_it_is_personal(tmp_path: Path) -> None:
    bench = Workbench(Adding(1.0))
    bench.initialize(Task(), tmp_path / "whole")
    with pytest.raises(
        ModelMismatchError, match=r"'head.bias', which by .*stays at each client; .*fedelta model init --job"
    ):
        bench.train(Task(), tmp_path / "whole", tmp_path / "update", plan=ClientPlan(personal=("head.*",)))


def test_a_learner_that_was_changed_finds_its_personal_tensor_unlike(tmp_path: Path) -> None:
    federation = Federation(tmp_path, {"a": Adding(1.0)}, model_table='personal = ["head.*"]')
    federation.round()

    class Wider(Headed):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(2, 5)

    federation.benches["a"] = Workbench(Adding(1.0, Wider))
    with pytest.raises(
        ModelMismatchError, match=r"own tensor 'head.weight' is float32\[1, 2\].*F32\[5, 2\].*been changed"
    ):
        federation.train("a")


def test_a_model_takes_back_what_a_file_has_of_it(tmp_path: Path) -> None:
    model = Adapted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_file({"adapter.bias": np.array([5.0], np.float32)}, tmp_path / "part")
    load_state(model, tmp_path / "part", partial=True)
    assert [name for name, value in model.state_dict().items() if not value.equal(before[name])] == ["adapter.bias"]
    assert model.adapter.bias.item() == 5
    with pytest.raises(ModelMismatchError, match="is missing"):
        load_state({"other": np.zeros(1, np.float32)}, tmp_path / "part", partial=True)
    with pytest.raises(ModelMismatchError, match="is not in the job's model"):
        load_state(model, tmp_path / "part")
