"""Torch modules to and from files. What the files hold is checked with the safetensors library."""

from pathlib import Path

import pytest
import safetensors.torch
import torch
from blake3 import blake3
from torch import nn

from fedelta import load_state
from fedelta.errors import LearnerError, ModelMismatchError, PayloadError
from fedelta.models import bind_model
from fedelta.models._torch import DeviceCell
from fedelta.tensors import DType

Tensors = dict[str, torch.Tensor]


class Holder(nn.Module):
    """Tensors by name, as parameters where they are floats, else as buffers."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            if tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)


def every_kind() -> Holder:
    """All that issue lists: other widths, shape (), empty, non-contiguous, integers, bool."""
    torch.manual_seed(1)
    return Holder(
        f64=torch.randn(3, 2, dtype=torch.float64),
        f16=torch.randn(5).half(),
        bf16=torch.randn(4, 3).bfloat16(),
        scalar=torch.tensor(2.5),
        empty=torch.empty(0, 3),
        transposed=torch.randn(4, 6).t(),
        strided=torch.randn(10)[::2],
        channels_last=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        bf16_transposed=torch.randn(4, 3).bfloat16().t(),
        integer=torch.tensor([1, 2, 3]),
        flag=torch.tensor([True, False]),
        unsigned=torch.tensor([1, 65535], dtype=torch.uint16),
    )


def snapshot(module: nn.Module) -> Tensors:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same(found: Tensors, wanted: Tensors) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True, msg=name)


def test_every_kind_of_tensor_is_written_as_it_is(tmp_path: Path) -> None:
    module = every_kind()

    written = bind_model(module).write_model(tmp_path / "model")

    content = (tmp_path / "model").read_bytes()
    assert (written.length, written.digest) == (len(content), blake3(content).digest())
    assert_same(safetensors.torch.load_file(tmp_path / "model"), snapshot(module))


def test_every_kind_of_tensor_is_read_back_into_its_own_memory(tmp_path: Path) -> None:
    module = every_kind()
    wanted, where = snapshot(module), {name: p.data_ptr() for name, p in module.named_parameters()}
    bind_model(module).write_model(tmp_path / "model")
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()

    bind_model(module).load(tmp_path / "model")

    assert_same(snapshot(module), wanted)
    assert where == {name: p.data_ptr() for name, p in module.named_parameters()}
    assert module.get_parameter("transposed").stride() == (1, 6)
    assert all(p.requires_grad for p in module.parameters())


def test_any_valid_file_will_do(tmp_path: Path) -> None:
    """The library's own file: another order, no padding."""
    wanted = {name: tensor.contiguous() for name, tensor in snapshot(every_kind()).items()}
    safetensors.torch.save_file(wanted, tmp_path / "model", metadata={"b": "1", "a": "2"})
    module = every_kind()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()

    load_state(module, str(tmp_path / "model"))

    assert_same(snapshot(module), wanted)


def test_a_delta_is_the_difference_in_float32_or_float64(tmp_path: Path) -> None:
    module = every_kind()
    state = bind_model(module)
    state.write_model(tmp_path / "base")
    base = snapshot(module)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape).to(parameter.dtype))

    state.write_delta(tmp_path / "base", tmp_path / "delta")

    wide = {name: torch.float64 if base[name].dtype == torch.float64 else torch.float32 for name in base}
    wanted = {
        name: parameter.detach().to(wide[name]) - base[name].to(wide[name])
        for name, parameter in module.named_parameters()
    }
    assert_same(safetensors.torch.load_file(tmp_path / "delta"), wanted)


def test_tensors_larger_than_a_block_beside_many_small_ones(tmp_path: Path) -> None:
    torch.manual_seed(2)
    sizes = {f"small{i:04}": 3 for i in range(1500)} | {"large": 600_001, "narrow": 300_001}
    module = Holder(**{name: torch.randn(size) for name, size in sizes.items()})
    module.narrow = nn.Parameter(module.get_parameter("narrow").bfloat16())
    state = bind_model(module)
    state.write_model(tmp_path / "base")
    base = snapshot(module)
    assert_same(safetensors.torch.load_file(tmp_path / "base"), base)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1.5)

    state.write_delta(tmp_path / "base", tmp_path / "delta")

    found = safetensors.torch.load_file(tmp_path / "delta")
    assert_same(found, {name: p.detach().float() - base[name].float() for name, p in module.named_parameters()})
    state.load(tmp_path / "base")
    assert_same(snapshot(module), base)


def test_batch_norm_counters_stay_home(tmp_path: Path) -> None:
    module = nn.BatchNorm1d(4)
    state = bind_model(module)
    state.write_model(tmp_path / "base")
    module(torch.randn(8, 4))
    assert int(module.num_batches_tracked or 0) == 1

    state.write_delta(tmp_path / "base", tmp_path / "delta")
    state.load(tmp_path / "base")

    assert set(safetensors.torch.load_file(tmp_path / "delta")) == {"weight", "bias", "running_mean", "running_var"}
    assert module.num_batches_tracked is not None
    assert module.num_batches_tracked.item() == 0


def tied() -> nn.Module:
    module = nn.ModuleDict({"decoder": nn.Linear(4, 4, bias=False), "encoder": nn.Linear(4, 4, bias=False)})
    module["encoder"].weight = module["decoder"].weight
    return module


def test_a_tied_tensor_travels_once_under_its_first_name(tmp_path: Path) -> None:
    bind_model(tied()).write_model(tmp_path / "model")

    assert list(safetensors.torch.load_file(tmp_path / "model")) == ["decoder.weight"]


@pytest.mark.parametrize(
    "names", [["decoder.weight"], ["encoder.weight"], ["decoder.weight", "encoder.weight"]], ids=" ".join
)
def test_any_of_a_tied_tensors_names_will_do(tmp_path: Path, names: list[str]) -> None:
    value = torch.arange(16.0).view(4, 4)
    safetensors.torch.save_file({name: value.clone() for name in names}, tmp_path / "base")
    module = tied()
    state = bind_model(module)

    state.load(tmp_path / "base")
    with torch.no_grad():
        module.get_parameter("decoder.weight").add_(1)
    state.write_delta(tmp_path / "base", tmp_path / "delta")

    assert sorted(spec.name for spec in state.schema.tensors) == names
    assert_same(safetensors.torch.load_file(tmp_path / "delta"), {name: torch.ones(4, 4) for name in names})
    assert module.get_parameter("encoder.weight") is module.get_parameter("decoder.weight")


def test_parameters_that_training_replaced_are_found(tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    state = bind_model(module)
    state.write_model(tmp_path / "base")
    module.weight = nn.Parameter(module.weight.detach() + 2)

    state.write_delta(tmp_path / "base", tmp_path / "delta")

    torch.testing.assert_close(safetensors.torch.load_file(tmp_path / "delta")["weight"], torch.full((2, 2), 2.0))


def test_a_model_that_does_not_fit_names_the_tensor_expected_and_got(tmp_path: Path) -> None:
    bind_model(nn.Linear(64, 10)).write_model(tmp_path / "job")
    before = nn.Linear(32, 10)
    wanted = snapshot(before)

    with pytest.raises(ModelMismatchError, match=r"'weight': expected F32\[10, 64\], got F32\[10, 32\]"):
        bind_model(before).load(tmp_path / "job")

    assert_same(snapshot(before), wanted)


@pytest.mark.parametrize("extra", [False, True])
def test_a_tensor_too_few_or_too_many_is_named(tmp_path: Path, extra: bool) -> None:
    bind_model(nn.Linear(3, 3, bias=not extra)).write_model(tmp_path / "job")

    with pytest.raises(ModelMismatchError, match="'bias'"):
        bind_model(nn.Linear(3, 3, bias=extra)).load(tmp_path / "job")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_tensor_that_is_not_finite_is_named(tmp_path: Path, bad: float) -> None:
    module = Holder(a=torch.zeros(7), b=torch.zeros(3, 2), c=torch.zeros(7))
    state = bind_model(module)
    state.write_model(tmp_path / "base")
    with torch.no_grad():
        module.get_parameter("b")[1, 1] = bad

    with pytest.raises(LearnerError, match="'b' holds NaN or infinity"):
        state.write_delta(tmp_path / "base", tmp_path / "delta")


def test_large_finite_differences_are_no_mistake(tmp_path: Path) -> None:
    module = Holder(a=torch.full((9,), 1e30))
    state = bind_model(module)
    state.write_model(tmp_path / "base")
    with torch.no_grad():
        module.get_parameter("a").mul_(-2)

    state.write_delta(tmp_path / "base", tmp_path / "delta")

    assert_same(safetensors.torch.load_file(tmp_path / "delta"), {"a": torch.full((9,), -2e30) - 1e30})


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        (Holder(z=torch.zeros(2, dtype=torch.complex64)), "'z' has element type torch.complex64"),
        (Holder(z=torch.zeros(2).to(torch.float8_e4m3fn)), "'z' has element type torch.float8_e4m3fn"),
        (nn.Linear(2, 2, device="meta"), "'weight' is .* meta"),
        (Holder(s=torch.tensor([0, 1]).to_sparse()), "'s' is torch.sparse_coo"),
    ],
    ids=["complex", "fp8", "meta", "sparse"],
)
def test_tensors_that_cannot_travel_are_named(module: nn.Module, complaint: str) -> None:
    with pytest.raises(LearnerError, match=complaint):
        bind_model(module)


def test_a_lazy_module_is_told_to_run_once() -> None:
    with pytest.raises(LearnerError, match="run the lazy module once"):
        bind_model(nn.LazyLinear(3))


def test_state_that_is_no_tensor_is_named() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> object:
            return {"scale": 1}

        def set_extra_state(self, state: object) -> None: ...

    with pytest.raises(LearnerError, match="'_extra_state'"):
        bind_model(Extra(2, 2))


def test_a_shorter_model_leaves_nothing_of_a_longer_one(tmp_path: Path) -> None:
    path = tmp_path / "model"
    bind_model(nn.Linear(100, 100)).write_model(path)
    inode = path.stat().st_ino

    written = bind_model(nn.Linear(2, 2)).write_model(path)

    assert (path.stat().st_size, path.stat().st_ino) == (written.length, inode)
    assert set(safetensors.torch.load_file(path)) == {"weight", "bias"}


def test_a_file_cut_off_is_refused_before_the_model_changes(tmp_path: Path) -> None:
    module = nn.Linear(8, 8)
    bind_model(module).write_model(tmp_path / "model")
    content = (tmp_path / "model").read_bytes()
    (tmp_path / "model").write_bytes(content[:-4])
    other = nn.Linear(8, 8)
    wanted = snapshot(other)

    with pytest.raises(PayloadError):
        bind_model(other).load(tmp_path / "model")

    assert_same(snapshot(other), wanted)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_tensors_on_an_accelerator_go_block_by_block(device: str, transposed: bool) -> None:
    """On "cpu" it stands in for an accelerator: the same calls."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    tensor = torch.arange(24.0, device=device).view(4, 6)
    tensor = tensor.t() if transposed else tensor
    flat = tensor.reshape(-1).cpu().clone()
    cell = DeviceCell(tensor, DType.F32)

    assert cell.read(5, 9).tolist() == flat[5:9].tolist()

    for start, stop in ((0, 10), (10, 24)):
        room = cell.room(start, stop)
        room[:] = -flat[start:stop].numpy()
        cell.put(start, room)
    assert tensor.reshape(-1).tolist() == (-flat).tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_module_on_a_gpu(tmp_path: Path) -> None:
    wanted = snapshot(every_kind())
    module = every_kind().cuda()

    bind_model(module).write_model(tmp_path / "model")
    bind_model(module).load(tmp_path / "model")

    assert_same(safetensors.torch.load_file(tmp_path / "model"), wanted)
    assert_same({name: tensor.cpu() for name, tensor in snapshot(module).items()}, wanted)
