"""Which of a learner's tensors are the job's model, and what becomes of the others."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fedelta.errors import LearnerError, ModelMismatchError
from fedelta.models._bind import is_torch_module, source_of
from fedelta.models._cells import Array, Cell, Selected, Source
from fedelta.models._files import opened
from fedelta.models._state import BlockState, ModelState
from fedelta.tensors import read_layout


@dataclass(frozen=True, kw_only=True)
class Split:
    """Names of a model's tensors, by what becomes of them."""

    job: frozenset[str]
    """They are the job's model: they come from the coordinator, and their changes go there."""
    personal: frozenset[str] = frozenset()
    """Each client has its own, trains them and keeps them."""
    constant: frozenset[str] = frozenset()
    """Buffers of what is not trained."""
    others: frozenset[str] = frozenset()
    """All that are not the job's: beside those two, parameters that nobody trains."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A learner's model, taken apart."""

    state: ModelState
    """The job's model."""
    own: "Own"
    """What stays at the client."""

    def load(self, path: Path, kept: Mapping[str, Array]) -> None:
        """Puts all tensors to what an assignment begins with: the model file, and what was kept of personal ones.

        Raises `ModelMismatchError` naming the first tensor that does not fit, `PayloadError` on a malformed file.
        """
        self.own.restore(kept)
        if self.own.names:
            self._check(path)
        self.state.load(path)

    def _check(self, path: Path) -> None:
        with opened(path) as fd:
            found = next((spec.name for spec in read_layout(fd).schema.tensors if spec.name in self.own.names), None)
        if found is not None:
            raise ModelMismatchError(
                f"the job's model has tensor {found!r}, which by model.tensors and model.personal stays at each "
                "client; make the initial model with `fedelta model init --job`"
            )


class Own:
    """Tensors of a model that are not the job's: begun as the model was built, which must be from the job's seed."""

    def __init__(self, model: object, source: Source, split: Split) -> None:
        self.names = split.others
        self._model = model
        self._untrained = split.others - split.personal - split.constant
        self._writes = self._count_writes()
        self.personal = Selected(source, split.personal)
        self._all = Selected(source, split.personal | split.constant)
        self._first = {name: cell.read(0, _count(cell)).copy() for name, cell in _cells(self._all).items()}

    @property
    def keeps(self) -> bool:
        """Whether there are personal tensors."""
        return bool(self.personal.names)

    def check(self) -> None:
        """Raises `LearnerError` where a parameter that nobody trains was changed since the model was built.

        It would differ from other clients' from now on, and nobody would see it: it does not travel.
        """
        now = self._count_writes()
        changed = next((name for name, count in self._writes.items() if now.get(name) != count), None)
        if changed is not None:
            raise LearnerError(
                f"train() changed {changed!r}, which model() gave as not to be trained; with model.tensors = "
                '"trainable" it does not travel. Let model() set requires_grad of all that is trained'
            )

    def _count_writes(self) -> dict[str, int]:
        if not self._untrained or not is_torch_module(self._model):
            return {}
        from fedelta.models._torch import writes

        return writes(self._model, self._untrained)

    def restore(self, kept: Mapping[str, Array]) -> None:
        """Puts personal tensors to what was kept of them, all others to what they were when the model was built.

        Training changes even buffers of what it does not train, such as the averages of BatchNorm.
        """
        cells = self._all.cells(writable=True)
        for name, first in self._first.items():
            _put(cells[name], _fitting(name, cells[name], kept[name]) if name in kept else first)


def bind_split(model: object, split: Split | None) -> Bound:
    """Binds a model. `split`: from `split_model`; None: all of it is the job's. Raises `LearnerError`."""
    source = source_of(model)
    if split is None:
        return Bound(state=BlockState(source), own=Own(model, source, Split(job=frozenset())))
    return Bound(state=BlockState(Selected(source, split.job)), own=Own(model, source, split))


def bind_named(model: object, path: Path) -> ModelState:
    """Binds only those tensors of a model that the file names. Raises `LearnerError`, `PayloadError`."""
    with opened(path) as fd:
        names = frozenset(read_layout(fd).schema.by_name)
    return BlockState(Selected(source_of(model), names))


def split_model(model: object, *, trainable: bool, personal: Iterable[str] = ()) -> Split:
    """Takes a model apart as [model] of a job file says. Personal tensors are those that match one of the patterns.

    `trainable`: of the rest only parameters with `requires_grad` are the job's, and the buffers of the modules that
    have such parameters of their own. Raises `LearnerError` naming a pattern that matches nothing, or what else is
    wrong.
    """
    cells = source_of(model).cells(writable=False)
    mine = frozenset().union(*(_matching(pattern, cells) for pattern in personal))
    job = (_trained(model, cells) if trainable else frozenset(cells)) - mine
    if not job:
        raise LearnerError("model.tensors and model.personal leave no tensor of the learner's model to the job")
    _check_tied(cells, job, mine)
    others = frozenset(cells) - job
    return Split(job=job, personal=mine, constant=_buffers(model, cells) & others - mine, others=others)


def _matching(pattern: str, names: Iterable[str]) -> frozenset[str]:
    found = frozenset(name for name in names if fnmatchcase(name, pattern))
    if not found:
        known = ", ".join(sorted(names))
        raise LearnerError(f"model.personal: {pattern!r} matches no tensor of the learner's model; it has {known}")
    return found


def _trained(model: object, cells: Mapping[str, Cell]) -> frozenset[str]:
    if not is_torch_module(model):
        raise LearnerError(
            'model.tensors = "trainable" needs a torch.nn.Module, whose parameters say whether they are trained; '
            "of a dict of arrays nobody knows. Name what is not to travel in model.personal"
        )
    from fedelta.models._torch import trained_names

    return trained_names(model) & frozenset(cells)


def _buffers(model: object, cells: Mapping[str, Cell]) -> frozenset[str]:
    if not is_torch_module(model):
        return frozenset()
    return frozenset(name for name, _ in model.named_buffers(remove_duplicate=False)) & frozenset(cells)


def _check_tied(cells: Mapping[str, Cell], job: frozenset[str], mine: frozenset[str]) -> None:
    """One tensor with two names cannot be the job's under one and personal under the other."""
    by_cell = {id(cells[name]): name for name in sorted(job)}
    both = next((name for name in sorted(mine) if id(cells[name]) in by_cell), None)
    if both is not None:
        other = by_cell[id(cells[both])]
        raise LearnerError(
            f"model.personal matches {both!r}, which is one tied tensor with {other!r}; let patterns match both or none"
        )


def _cells(source: Source) -> Mapping[str, Cell]:
    return source.cells(writable=False)


def _count(cell: Cell) -> int:
    return math.prod(cell.shape)


def _put(cell: Cell, values: Array) -> None:
    room = cell.room(0, len(values))
    room[:] = values
    cell.put(0, room)


def _fitting(name: str, cell: Cell, kept: Array) -> Array:
    """What was kept, flat and as it is stored. Raises `ModelMismatchError` where the model is another one now."""
    values = kept.view(cell.dtype.storage) if kept.dtype.itemsize == cell.dtype.width else kept
    if values.shape != cell.shape or values.dtype != cell.dtype.storage:
        raise ModelMismatchError(
            f"this client's own tensor {name!r} is {kept.dtype}{list(kept.shape)}, the learner's model has "
            f"{cell.dtype.label}{list(cell.shape)}: has the learner been changed since the job began?"
        )
    return values.reshape(-1)
