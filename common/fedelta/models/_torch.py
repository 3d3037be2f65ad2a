"""Models that are torch modules. The only module here that imports torch."""

from collections.abc import Hashable, Mapping

import torch

from fedelta.errors import LearnerError
from fedelta.models._cells import Array, ArrayCell, Cell
from fedelta.tensors import DType

_DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.int64: DType.I64,
    torch.int32: DType.I32,
    torch.int16: DType.I16,
    torch.int8: DType.I8,
    torch.uint64: DType.U64,
    torch.uint32: DType.U32,
    torch.uint16: DType.U16,
    torch.uint8: DType.U8,
    torch.bool: DType.BOOL,
}
_STORED_AS = {torch.bfloat16: torch.uint16, torch.bool: torch.uint8}
"""Types that numpy lacks, or stores otherwise, and the type of the same width whose bits stand for them."""


class ModuleSource:
    """The parameters and persistent buffers of a module, under the names of its `state_dict`."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def cells(self, *, writable: bool) -> Mapping[str, Cell]:  # noqa: ARG002  torch's memory always is
        """See `Source`."""
        made: dict[Hashable, Cell] = {}
        found: dict[str, Cell] = {}
        for name, value in self._module.state_dict(keep_vars=True).items():
            tensor = _checked(name, value)
            key = _identity(name, tensor)
            if key not in made:
                made[key] = _cell(tensor)
            found[name] = made[key]
        return found


def trained_names(module: torch.nn.Module) -> frozenset[str]:
    """Parameters that are trained, and the buffers of the modules that have such parameters of their own."""
    found: set[str] = set()
    for path, part in module.named_modules(remove_duplicate=False):
        trained = {name for name, value in part.named_parameters(recurse=False) if value.requires_grad}
        buffers = {name for name, _ in part.named_buffers(recurse=False)} if trained else set()
        found |= {f"{path}.{name}" if path else name for name in trained | buffers}
    return frozenset(found)


def writes(module: torch.nn.Module, names: frozenset[str]) -> dict[str, int]:
    """How often each of these parameters was written to, as torch counts it for autograd."""
    named = module.named_parameters(remove_duplicate=False)
    return {name: each._version for name, each in named if name in names}


class DeviceCell:
    """A tensor in the memory of an accelerator: blocks of it go through this process's memory."""

    def __init__(self, tensor: torch.Tensor, dtype: DType) -> None:
        self.dtype = dtype
        self.shape = tuple(tensor.shape)
        self._tensor = tensor
        # On the device, and a copy only where the tensor is not contiguous.
        self._flat = tensor.contiguous().view(-1)

    def read(self, start: int, stop: int) -> Array:
        """See `Cell`."""
        block: Array = self._flat[start:stop].cpu().numpy()
        return block

    def room(self, start: int, stop: int) -> Array:
        """See `Cell`."""
        block: Array = torch.empty(stop - start, dtype=self._flat.dtype).numpy()
        return block

    def put(self, start: int, values: Array) -> None:
        """See `Cell`."""
        stop = start + len(values)
        self._flat[start:stop].copy_(torch.from_numpy(values))
        if stop == self._flat.numel() and not self._tensor.is_contiguous():
            self._tensor.copy_(self._flat.view(self._tensor.shape))


def _checked(name: str, value: object) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        raise LearnerError(
            f"the module's state has {name!r}, a {type(value).__name__}: only tensors can travel. Make it a buffer, or "
            "leave it out of the state"
        )
    if torch.nn.parameter.is_lazy(value):
        raise LearnerError(f"tensor {name!r} has no shape yet: run the lazy module once in model()")
    if value.layout != torch.strided or value.device.type == "meta":
        kind = f"{value.layout} on device {value.device}"
        raise LearnerError(f"tensor {name!r} is {kind}; only dense tensors with values can travel")
    if value.dtype not in _DTYPES:
        known = ", ".join(str(dtype) for dtype in _DTYPES)
        raise LearnerError(f"tensor {name!r} has element type {value.dtype}; supported are {known}")
    return value.detach()


def _identity(name: str, tensor: torch.Tensor) -> Hashable:
    """Equal for tied tensors: the same elements of the same memory. An empty tensor has no memory to share."""
    if tensor.numel() == 0:
        return name
    return tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _cell(tensor: torch.Tensor) -> Cell:
    dtype = _DTYPES[tensor.dtype]
    stored = tensor.view(_STORED_AS.get(tensor.dtype, tensor.dtype))
    if tensor.device.type == "cpu":
        return ArrayCell(stored.numpy(), dtype)
    return DeviceCell(stored, dtype)
