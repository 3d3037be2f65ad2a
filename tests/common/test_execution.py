"""What one assignment does at a client."""

import math
import random
import sys
import textwrap
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from fedelta import EvalResult, Learner, Task, TrainResult
from fedelta.errors import LearnerError, WeightError
from fedelta.execution import StateFiles, Workbench, initialize, load_learner, offered_name
from fedelta.learner import MAX_EXAMPLES


class Adder(Learner):
    """Adds a number to every weight, and returns what it is told to."""

    def __init__(self) -> None:
        self.result: Any = TrainResult(examples=3)
        self.verdict: Any = EvalResult(examples=2, metrics={"accuracy": 0.5})

    def model(self) -> dict[str, np.ndarray]:
        return {"w": np.random.random(4), "b": np.zeros((), np.float32)}

    def train(self, model: Any, task: Task) -> Any:
        for array in model.values():
            array += task.config.get("add", 1)
        return self.result

    def evaluate(self, model: Any, task: Task) -> Any:  # noqa: ARG002
        return self.verdict


@pytest.fixture
def learner() -> Adder:
    return Adder()


@pytest.fixture
def base(learner: Adder, tmp_path: Path) -> Path:
    Workbench(learner).initialize(Task(seed=1), tmp_path / "base")
    return tmp_path / "base"


def test_an_assignment_starts_from_the_model_it_is_given(learner: Adder, base: Path, tmp_path: Path) -> None:
    bench = Workbench(learner)
    for _ in range(2):
        done = bench.train(Task(config={"add": 2}), base, tmp_path / "delta")

        found = safetensors.numpy.load_file(tmp_path / "delta")
        np.testing.assert_allclose(found["w"], 2.0)
        assert found["b"] == 2
        assert (done.examples, done.metrics, done.written.length) == (3, {}, (tmp_path / "delta").stat().st_size)
        assert done.seconds >= 0


def test_evaluation_sees_the_model_it_is_given(base: Path) -> None:
    seen = []

    class Looker(Adder):
        def evaluate(self, model: Any, task: Task) -> Any:
            seen.append(model["w"].copy())
            return super().evaluate(model, task)

    done = Workbench(Looker()).evaluate(Task(), base)

    assert seen[0].tolist() == safetensors.numpy.load_file(base)["w"].tolist()
    assert (done.examples, done.metrics) == (2, {"accuracy": 0.5})


def test_the_same_seed_makes_the_same_model_in_any_process_state(learner: Adder, base: Path, tmp_path: Path) -> None:
    bench = Workbench(Adder())
    bench.train(Task(), base, tmp_path / "delta")

    bench.initialize(Task(seed=1), tmp_path / "again")
    other = Workbench(learner).initialize(Task(seed=2), tmp_path / "other")

    assert (tmp_path / "again").read_bytes() == base.read_bytes()
    assert (tmp_path / "other").read_bytes() != base.read_bytes()
    assert other.length == base.stat().st_size


@pytest.mark.parametrize("seed", [0, 7, 2**63 - 1])
def test_python_numpy_and_torch_are_seeded_for_each_assignment(base: Path, tmp_path: Path, seed: int) -> None:
    drawn = []

    class Dice(Adder):
        def train(self, model: Any, task: Task) -> Any:
            drawn.append((random.random(), np.random.random(), torch.rand(()).item()))
            return super().train(model, task)

    bench = Workbench(Dice())
    for chosen in (seed, seed, seed + 1 if seed < 2**63 - 1 else 0):
        bench.train(Task(seed=chosen), base, tmp_path / "delta")

    assert drawn[0] == drawn[1]
    assert not set(drawn[1]) & set(drawn[2])


@pytest.mark.parametrize("examples", [0, -1, MAX_EXAMPLES + 1, 1.5, "many", None])
def test_absurd_weights_are_refused(learner: Adder, base: Path, tmp_path: Path, examples: Any) -> None:
    learner.result = TrainResult(examples=examples)

    with pytest.raises(WeightError, match="examples="):
        Workbench(learner).train(Task(), base, tmp_path / "delta")


@pytest.mark.parametrize("examples", [1, np.int64(5), MAX_EXAMPLES])
def test_weights_may_be_any_kind_of_integer(learner: Adder, base: Path, tmp_path: Path, examples: Any) -> None:
    learner.result = TrainResult(examples=examples)

    done = Workbench(learner).train(Task(), base, tmp_path / "delta")

    assert type(done.examples) is int
    assert done.examples == examples


@pytest.mark.parametrize("value", [1, np.float32(0.5), torch.tensor(0.25), True])
def test_metrics_may_be_any_kind_of_number(learner: Adder, base: Path, value: Any) -> None:
    learner.verdict = EvalResult(examples=1, metrics={"m": value})

    found = Workbench(learner).evaluate(Task(), base).metrics["m"]

    assert type(found) is float
    assert found == float(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, "good", None, np.zeros(2), torch.zeros(2)])
def test_other_metrics_are_named(learner: Adder, base: Path, value: Any) -> None:
    learner.verdict = EvalResult(examples=1, metrics={"fine": 1, "odd": value})

    with pytest.raises(LearnerError, match="'odd'"):
        Workbench(learner).evaluate(Task(), base)


@pytest.mark.parametrize("result", [None, 3, {"examples": 3}, EvalResult(examples=1, metrics={})])
def test_what_train_returns_must_be_a_train_result(learner: Adder, base: Path, tmp_path: Path, result: Any) -> None:
    learner.result = result

    with pytest.raises(LearnerError, match=r"train\(\) returned .*; return a fedelta.TrainResult"):
        Workbench(learner).train(Task(), base, tmp_path / "delta")


def test_what_the_learner_raises_comes_through_and_the_bench_goes_on(base: Path, tmp_path: Path) -> None:
    class Moody(Adder):
        def train(self, model: Any, task: Task) -> Any:
            if task.config.get("raise"):
                model["w"][:] = np.nan
                raise ZeroDivisionError("no data today")
            return super().train(model, task)

    bench = Workbench(Moody())
    with pytest.raises(ZeroDivisionError, match="no data today"):
        bench.train(Task(config={"raise": True}), base, tmp_path / "delta")

    bench.train(Task(), base, tmp_path / "delta")
    np.testing.assert_allclose(safetensors.numpy.load_file(tmp_path / "delta")["w"], 1.0)


class Sized(Adder):
    """Its model is as large as it is told to be; counts how often it is built, and how many there are at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.built: list[dict[str, Any]] = []
        self.seen: list[Any] = []

    def model(self, width: int = 4, *, bias: bool = True) -> dict[str, np.ndarray]:
        self.built.append({"width": width, "bias": bias})
        return {"w": np.random.random(width), **({"b": np.zeros((), np.float32)} if bias else {})}

    def train(self, model: Any, task: Task) -> Any:
        self.seen.append(model)
        return super().train(model, task)


def test_a_model_is_built_with_the_arguments_of_the_assignment(tmp_path: Path) -> None:
    bench, shapes = Workbench(Sized()), {}
    for name, arguments in {"small": {"width": 2, "bias": False}, "large": {"width": 9}, "plain": {}}.items():
        bench.initialize(Task(seed=1), tmp_path / name, arguments=arguments)
        bench.evaluate(Task(), tmp_path / name, arguments=arguments)
        bench.train(Task(), tmp_path / name, tmp_path / "delta", arguments=arguments)
        found = safetensors.numpy.load_file(tmp_path / "delta")
        shapes[name] = {tensor: array.shape for tensor, array in found.items()}
    assert shapes == {"small": {"w": (2,)}, "large": {"w": (9,), "b": ()}, "plain": {"w": (4,), "b": ()}}


def test_the_model_object_stays_while_the_arguments_do(base: Path, tmp_path: Path) -> None:
    learner = Sized()
    bench = Workbench(learner)
    for arguments in ({}, {"width": 4, "bias": True}, {"bias": True, "width": 4}, {"width": 4, "bias": 1}):
        bench.train(Task(), base, tmp_path / "delta", arguments=arguments)
        bench.evaluate(Task(), base, arguments=arguments)

    first, second, third, fourth = learner.seen
    assert second is third
    assert len({id(first), id(second), id(fourth)}) == 3
    assert learner.built == [{"width": 4, "bias": True}] * 3


def test_the_old_model_is_gone_when_the_next_one_is_built(tmp_path: Path) -> None:
    """Even one that refers to itself: two large models may not fit in memory."""
    alive: list[int] = []

    class Ring(nn.Linear):
        def __init__(self, width: int) -> None:
            super().__init__(width, 1)
            self.forward = self.forward  # type: ignore[method-assign]  # as a wrapper does

    class Rings(Learner):
        last: weakref.ref[nn.Module] | None = None

        def model(self, width: int = 2) -> nn.Module:
            alive.append(self.last is not None and self.last() is not None)
            made = Ring(width)
            self.last = weakref.ref(made)
            return made

        def evaluate(self, model: nn.Module, task: Task) -> EvalResult:  # noqa: ARG002
            return EvalResult(examples=1, metrics={})

    bench = Workbench(Rings())
    for width in (3, 4):
        initialize(Rings(), Task(), tmp_path / "base", arguments={"width": width})
        alive.clear()
        bench.evaluate(Task(), tmp_path / "base", arguments={"width": width})
        assert alive == [False]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"witdh": 3}, r"Sized.model\(\) takes no argument 'witdh'; did you mean 'width'\? It takes width, bias$"),
        ({"width": 3, "layers": 2}, r"Sized.model\(\) takes no argument 'layers'; it takes width, bias$"),
        ({"self": 1}, "takes no argument 'self'"),
    ],
)
def test_an_argument_that_the_model_does_not_take_is_named(
    base: Path, tmp_path: Path, arguments: dict[str, Any], complaint: str
) -> None:
    bench = Workbench(Sized())
    for work in (
        lambda: bench.train(Task(), base, tmp_path / "delta", arguments=arguments),
        lambda: bench.evaluate(Task(), base, arguments=arguments),
        lambda: bench.initialize(Task(), tmp_path / "new", arguments=arguments),
    ):
        with pytest.raises(LearnerError, match=complaint):
            work()
    bench.train(Task(), base, tmp_path / "delta", arguments={"width": 4})


def test_a_model_without_arguments_says_so(learner: Adder, base: Path) -> None:
    with pytest.raises(LearnerError, match=r"Adder.model\(\) takes no argument 'width'; it takes none"):
        Workbench(learner).evaluate(Task(), base, arguments={"width": 4})


def test_a_model_may_take_any_argument(base: Path) -> None:
    class Open(Sized):
        def model(self, **options: Any) -> Any:  # type: ignore[override]  # on purpose
            return super().model(options["size"])

    assert Workbench(Open()).evaluate(Task(), base, arguments={"size": 4}).examples == 2


def test_a_model_that_needs_an_argument_is_built_when_it_is_given(base: Path) -> None:
    class Needy(Sized):
        def model(self, width: int, *, bias: bool = True) -> Any:  # type: ignore[override]  # on purpose
            return super().model(width, bias=bias)

    bench = Workbench(Needy())
    with pytest.raises(
        LearnerError, match=r"Needy.model\(\) needs the argument 'width'; give it in \[model.arguments\]"
    ):
        bench.evaluate(Task(), base)
    assert bench.evaluate(Task(), base, arguments={"width": 4}).examples == 2


def test_a_model_that_cannot_be_built_is_found_before_there_is_work() -> None:
    class Broken(Learner):
        def model(self, width: int = 0) -> Any:
            return 1 / width

    with pytest.raises(ZeroDivisionError):
        Workbench(Broken())


class Torchy(Learner):
    """An ordinary PyTorch loop, as it would be without fedelta."""

    def setup(self) -> None:
        generator = torch.Generator().manual_seed(3)
        x = torch.randn(64, 4, generator=generator)
        self.data_set = TensorDataset(x, x @ torch.tensor([1.0, -2.0, 0.5, 3.0]))
        self.modes: list[bool] = []

    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 1), nn.BatchNorm1d(1, affine=False), nn.Dropout(0.1), nn.Linear(1, 1))

    def train(self, model: nn.Module, task: Task) -> TrainResult:
        self.modes.append(model.training)
        loader = DataLoader(self.data_set, batch_size=8, shuffle=True, num_workers=task.config["workers"])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(2):
            for inputs, targets in loader:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(inputs).squeeze(1), targets)
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
                optimizer.step()
        return TrainResult(examples=len(self.data_set), metrics={"loss": loss.item()})

    def evaluate(self, model: nn.Module, task: Task) -> EvalResult:  # noqa: ARG002
        self.modes.append(model.training)
        return EvalResult(examples=1, metrics={})


def test_an_ordinary_pytorch_loop_with_worker_processes_fits_unchanged(tmp_path: Path) -> None:
    """And gives the same bits each time it is trained from the same model."""
    learner = Torchy()
    learner.setup()
    bench = Workbench(learner)
    bench.initialize(Task(seed=5), tmp_path / "base")
    task = Task(seed=9, config={"workers": 2})

    first = bench.train(task, tmp_path / "base", tmp_path / "first")
    bench.evaluate(task, tmp_path / "base")
    again = bench.train(task, tmp_path / "base", tmp_path / "again")

    assert learner.modes == [True, False, True]
    assert (first.examples, first.metrics) == (64, again.metrics)
    assert first.written == again.written
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    assert "1.num_batches_tracked" not in safetensors.numpy.load_file(tmp_path / "first")


class Keeper(Adder):
    """Keeps what it is told to keep, and notes what it gets back."""

    def __init__(self, *kept: Any) -> None:
        super().__init__()
        self.kept = list(kept)
        self.got: list[Any] = []

    def durable_state(self) -> Any:
        return self.kept.pop(0)

    def load_durable_state(self, state: Any) -> None:
        self.got.append(state)


STATES: list[dict[str, Any]] = [
    {"m": np.arange(6, dtype=np.float32).reshape(2, 3).T, "t": np.int64(7), "mask": np.array([True, False])},
    {"m": torch.tensor([1.5, 2.5], requires_grad=True), "half": torch.ones((), dtype=torch.float16)},
    {"m": torch.nn.Parameter(torch.eye(2).T), "none": np.zeros((0, 3))},
    {},
]


@pytest.mark.parametrize("kept", STATES)
def test_a_durable_state_comes_back_as_numpy_arrays(base: Path, tmp_path: Path, kept: dict[str, Any]) -> None:
    learner, state = Keeper(kept, None), tmp_path / "state"
    bench = Workbench(learner)

    first = bench.train(Task(), base, tmp_path / "delta", state=StateFiles(load=None, save=state))
    bench.train(Task(), base, tmp_path / "delta", state=StateFiles(load=state, save=tmp_path / "next"))

    assert first.state_saved
    assert learner.got[0] == {}
    expected = {name: value.detach().numpy() if torch.is_tensor(value) else value for name, value in kept.items()}
    assert learner.got[1].keys() == expected.keys()
    assert {f"learner/{name}" for name in expected} == safetensors.numpy.load_file(state).keys()
    for name, found in learner.got[1].items():
        assert found.dtype == expected[name].dtype
        np.testing.assert_array_equal(found, expected[name])
        found[...] = 0  # they are the learner's own


def test_no_state_this_time_leaves_no_file(base: Path, tmp_path: Path) -> None:
    files = StateFiles(load=None, save=tmp_path / "state")

    done = Workbench(Keeper(None)).train(Task(), base, tmp_path / "delta", state=files)

    assert not done.state_saved
    assert not files.save.exists()


def test_a_shorter_state_takes_the_place_of_a_longer_one(base: Path, tmp_path: Path) -> None:
    learner, state = Keeper({"m": np.ones(1000)}, {"m": np.zeros(1)}), tmp_path / "state"
    bench = Workbench(learner)

    for _ in range(2):
        bench.train(Task(), base, tmp_path / "delta", state=StateFiles(load=None, save=state))

    assert safetensors.numpy.load_file(state)["learner/m"].tolist() == [0]


def test_without_a_place_for_it_a_learner_starts_afresh(base: Path, tmp_path: Path) -> None:
    learner = Keeper()

    assert not Workbench(learner).train(Task(), base, tmp_path / "delta").state_saved
    assert learner.got == [{}]


@pytest.mark.parametrize(
    ("kept", "complaint"),
    [
        ([np.ones(2)], "got a list; return a dict"),
        ({"m": [1.0]}, "'m' is a list"),
        ({"m": np.array(["a"])}, "'m' has element type"),
        ({3: np.ones(2)}, "must be strings"),
        ({"m": torch.ones(2, dtype=torch.bfloat16)}, r"'m' \(torch.bfloat16.*convert it"),
        ({"m": torch.ones(2).to_sparse()}, "'m' .*sparse"),
    ],
)
def test_what_cannot_be_kept_is_named(base: Path, tmp_path: Path, kept: Any, complaint: str) -> None:
    files = StateFiles(load=None, save=tmp_path / "state")

    with pytest.raises(LearnerError, match=rf"durable_state\(\): .*{complaint}"):
        Workbench(Keeper(kept)).train(Task(), base, tmp_path / "delta", state=files)


def test_a_learner_that_keeps_a_state_must_take_it_back(base: Path, tmp_path: Path) -> None:
    class Careless(Adder):
        def durable_state(self) -> Any:
            return {}

    with pytest.raises(NotImplementedError, match=r"Careless has durable_state\(\), so it must define"):
        Workbench(Careless()).train(Task(), base, tmp_path / "delta")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with somebody's learners, as working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "somebodys.py").write_text(
        textwrap.dedent("""
            from fedelta import Learner

            class Digits(Learner):
                pass

            class Named(Learner):
                name = "numbers"

            class Fussy(Learner):
                def __init__(self, path):
                    pass

            class Other:
                pass
        """)
    )
    (tmp_path / "needy.py").write_text("import a_package_that_nobody_has\n")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "script.py").write_text("raise SystemExit('usage: script.py FILE')\n")
    yield tmp_path
    for name in ("somebodys", "needy", "broken", "script"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("project")
def test_a_learner_is_found_in_the_working_directory() -> None:
    digits, named = load_learner("somebodys:Digits"), load_learner("somebodys:Named")

    assert type(digits).__name__ == "Digits"
    assert offered_name(type(digits), "somebodys:Digits") == "somebodys:Digits"
    assert offered_name(type(named), "somebodys:Named") == "numbers"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("digits", 'write "module:Class"'),
        (":Digits", 'write "module:Class"'),
        ("nowhere:Digits", "no module 'nowhere' in {here}"),
        ("nowhere.at.all:Digits", "no module 'nowhere' in {here}"),
        ("somebodys.inner:Digits", "no module|importing"),
        ("somebodys:Digit", "did you mean 'Digits'"),
        ("somebodys:Xyzzy", "its learners are Digits, Fussy, Named"),
        ("somebodys:Other", "derive it from fedelta.Learner"),
        ("somebodys:Learner.x", "has no class"),
        ("somebodys:Fussy", "TypeError"),
        ("needy:Digits", "'a_package_that_nobody_has'"),
        ("broken:Digits", "ZeroDivisionError"),
        ("script:Digits", "SystemExit: usage: script.py FILE"),
    ],
)
def test_a_learner_that_cannot_be_loaded_says_why(project: Path, spec: str, complaint: str) -> None:
    with pytest.raises(LearnerError, match=complaint.format(here=project)):
        load_learner(spec)


def test_a_learner_without_the_three_methods_is_told() -> None:
    with pytest.raises(NotImplementedError, match=r"Learner must define model\(\)"):
        Workbench(Learner())
