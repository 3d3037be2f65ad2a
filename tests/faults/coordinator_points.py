"""The points of a coordinator: what it does to files, journal and models, and what it says and hears."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fedelta_server import coordinator, folding, transfers, updates, uploads
from fedelta_server.aggregate import WeightedUpdate, _files
from fedelta_server.rpc import _coordinator as rpc
from fedelta_server.store import _upload
from fedelta_server.store._fs import FileSystem
from fedelta_server.store.io import storage_errors
from fedelta_server.store.journal import Journal
from tests.faults.garble import garbled
from tests.faults.orders import Points
from tests.faults.patching import around, around_awaited, put, taken
from tests.faults.wrong import WRONG

CHUNK_BYTES = 4096
"""Small models are to go in several chunks, too."""

_STEPS = ("truncate", "sync", "rename", "sync_dir", "make_dir", "unlink", "remove_dir")


def install(points: Points) -> None:
    """To be called before the daemon starts."""
    _hasten()
    _watch_files(points)
    _watch_journal(points)
    _watch_folds(points)
    _watch_life(points)
    _watch_streams(points)


def _hasten() -> None:
    """Waits that are there for people and slow links; and small files are treated as large ones are."""
    put(coordinator, "RESUME_SECONDS", 0.1)
    put(uploads, "STALL_SECONDS", 1.0)
    put(transfers, "CHUNK_BYTES", CHUNK_BYTES)
    put(_upload, "_MIN_SPARE_BYTES", 1)


def _watch_files(points: Points) -> None:
    for step in _STEPS:
        _watch_step(points, step, getattr(FileSystem, step))
    write = FileSystem.write

    def watched(self: FileSystem, fd: int, path: Path, data: memoryview | bytes, offset: int) -> None:
        with storage_errors(path):
            points.reach("before write", str(path))
            # A write may be cut short, by a kill or a full disk.
            write(self, fd, path, data[: len(data) // 2], offset)
            points.reach("in write", str(path))
            write(self, fd, path, data, offset)

    put(FileSystem, "write", watched)


def _watch_step(points: Points, step: str, function: Callable[..., None]) -> None:
    def watched(self: FileSystem, *args: Any) -> None:
        paths = [str(each) for each in args if isinstance(each, Path)]
        with storage_errors(Path(paths[-1])):
            points.reach(f"before {step}", *paths)
            function(self, *args)
            points.reach(f"after {step}", *paths)

    put(FileSystem, step, watched)


def _watch_journal(points: Points) -> None:
    def inserting(_c: Any, _cursor: Any, statement: str, rows: Any, _x: Any, _many: bool) -> None:
        if statement.startswith("INSERT INTO journal"):
            points.reach("before insert", *_bodies(rows))

    def inserted(_c: Any, _cursor: Any, statement: str, rows: Any, _x: Any, _many: bool) -> None:
        if statement.startswith("INSERT INTO journal"):
            points.reach("before commit", *_bodies(rows))

    sa.event.listen(sa.Engine, "before_cursor_execute", inserting)
    sa.event.listen(sa.Engine, "after_cursor_execute", inserted)
    around(points, Journal, "_insert", "transaction", lambda _, batch: " ".join(map(repr, batch)))


def _bodies(rows: Any) -> list[str]:
    """The records of an insertion, of one row or of several, as JSON."""
    return [bytes(value).decode(errors="replace") for value in _values(rows) if isinstance(value, bytes | memoryview)]


def _values(rows: Any) -> Iterator[Any]:
    for each in rows:
        if isinstance(each, tuple):
            yield from each
        else:
            yield each


def _watch_folds(points: Points) -> None:
    def says(_: Any, __: Any, effect: Any) -> str:
        return f"{effect.job}.{effect.round}."

    around(points, coordinator, "make_version", "making a version", says)
    fold = taken(folding, "fold")

    def folded(base: Path, updates: Sequence[WeightedUpdate], *rest: Any, **options: Any) -> Any:
        said = " ".join(str(each.path) for each in updates)
        act = points.reach("before fold", said)
        result = fold(base, WRONG[act](updates) if act in WRONG else updates, *rest, **options)
        points.reach("after fold", said)
        return result

    put(folding, "fold", folded)
    plan_of = taken(folding, "plan_of")

    def planned(spec: Any) -> Any:
        plan = plan_of(spec)
        return replace(plan, optimizer=_Watched(points, plan.optimizer))

    put(folding, "plan_of", planned)
    write = _files.Writer.write

    def watched(self: Any, data: memoryview, offset: int) -> None:
        with storage_errors(self.path):
            points.reach("before writing the model")
        write(self, data, offset)

    put(_files.Writer, "write", watched)


class _Watched:
    """A server optimizer with points around its step."""

    def __init__(self, points: Points, optimizer: Any) -> None:
        self._points = points
        self._optimizer = optimizer

    @property
    def state(self) -> Any:
        return self._optimizer.state

    def initial(self, name: str) -> Any:
        return self._optimizer.initial(name)

    def apply(self, *args: Any) -> None:
        self._points.reach("before the optimizer's step")
        self._optimizer.apply(*args)
        self._points.reach("after the optimizer's step")


def _watch_life(points: Points) -> None:
    around_awaited(points, coordinator.Coordinator, "start", "start")
    around_awaited(points, updates.Updates, "push", "push", lambda _, pushed, __: pushed.assignment)
    around_awaited(points, updates.Updates, "_take", "taking", lambda _, pushed, *__: pushed.assignment)
    for call in ("Register", "NextAssignment", "RenewAssignment", "ReportEvaluation", "ReportFailure"):
        around_awaited(points, rpc.CoordinatorService, call, call, lambda _, request, __: str(request))


def _watch_streams(points: Points) -> None:
    asked_for = ContextVar("asked_for", default="")
    fetch, read = taken(rpc.CoordinatorService, "FetchModel"), taken(transfers, "read_chunks")

    async def fetched(self: Any, request: Any, context: Any) -> AsyncIterator[Any]:
        asked_for.set(request.assignment_id)
        async for message in fetch(self, request, context):
            yield message

    async def chunks(*args: Any) -> AsyncGenerator[bytes, None]:
        async for chunk in read(*args):
            for each in garbled(chunk, points.reach("chunk down", asked_for.get())):
                yield each

    put(rpc.CoordinatorService, "FetchModel", fetched)
    put(transfers, "read_chunks", chunks)
