"""A learner's model as the tensors of a file: read from one, written to one, subtracted from one.

What travels is a safetensors file; what a learner trains is a torch module or a mapping of numpy arrays. Here
the two meet, block by block, so that a process never holds a second copy of the model.
"""

from pathlib import Path

from fedelta.models._arrays import array_source, on_cpu, read_arrays
from fedelta.models._bind import bind_model, is_torch_module
from fedelta.models._cells import Source
from fedelta.models._files import Written
from fedelta.models._given import Given
from fedelta.models._sections import LEARNER, PERSONAL, read_sections, write_sections
from fedelta.models._split import Bound, Own, Split, bind_named, bind_split, split_model
from fedelta.models._state import ModelState


def load_state(model: object, path: str | Path, *, partial: bool = False) -> None:
    """Fills a torch module, or a mapping of numpy arrays, from any valid safetensors file.

    Names, types and shapes must be the model's own; of tied tensors one name is enough. With `partial` the file may
    hold some of them only, such as adapters, and the others stay as they are. Raises `ModelMismatchError` naming the
    first tensor that differs, `PayloadError` where the file is malformed.
    """
    bound = bind_named(model, Path(path)) if partial else bind_model(model)
    bound.load(Path(path))


__all__ = [
    "LEARNER",
    "PERSONAL",
    "Bound",
    "Given",
    "ModelState",
    "Own",
    "Source",
    "Split",
    "Written",
    "array_source",
    "bind_model",
    "bind_split",
    "is_torch_module",
    "load_state",
    "on_cpu",
    "read_arrays",
    "read_sections",
    "split_model",
    "write_sections",
]
