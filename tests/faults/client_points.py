"""The points of a client's runtime: its steps with an assignment, and what it says and hears."""

import asyncio
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fedelta.errors import UnavailableError
from fedelta.wire import bulk, route
from fedelta_client import assignment, courier, results, retry, runtime, session, spool, trainer, transfer
from tests.faults import trainer_points
from tests.faults.coordinator_points import CHUNK_BYTES
from tests.faults.garble import garbled
from tests.faults.orders import Points
from tests.faults.patching import around, around_awaited, put, taken

MOST_SECONDS = 0.5
"""The longest pause between two tries."""


def install(points: Points) -> None:
    """To be called before the client starts."""
    folder = points.folder.with_name(f"{points.folder.name}.trainer")
    folder.mkdir(exist_ok=True)
    os.environ[trainer_points.VARIABLE] = str(folder)
    _hasten()
    _watch_work(points)
    _watch_streams(points)
    _watch_calls(points)


def _hasten() -> None:
    """Waits that are there for people and slow links; and small updates are to go in several chunks, too."""
    put(bulk, "CHUNK_BYTES", CHUNK_BYTES)
    put(route, "KEEPALIVE_ANSWER_SECONDS", 1)
    put(runtime, "FIRST_RECOVERY_SECONDS", 0.1)
    put(runtime, "NAME_RETRY_SECONDS", 0.1)
    put(transfer, "STALL_SECONDS", 2.0)
    put(session, "delays", partial(retry.delays, most=MOST_SECONDS))


def _watch_work(points: Points) -> None:
    perform = taken(assignment.Worker, "perform")

    async def performed(self: Any, given: Any) -> None:
        points.doing = given.id
        await perform(self, given)
        points.doing = ""

    put(assignment.Worker, "perform", performed)
    around_awaited(points, assignment.Worker, "perform", "assignment", lambda _, given: str(given.id))
    around_awaited(points, courier.Courier, "fetch", "fetch", lambda _, given, *__: str(given.id))
    around_awaited(points, trainer.Trainer, "do", "work", lambda _, command, *__: _named(command))
    around_awaited(points, courier.Courier, "deliver", "delivery", lambda _, given, *__: str(given.id))
    around(points, results.Results, "keep", "keeping the result", lambda _, given, __: str(given.id))
    around(points, spool.States, "pend", "pending state", lambda *words, **_: words[-1])
    around(points, spool.States, "settle", "settling", lambda _, fates: " ".join(fates))
    deliver = taken(courier.Courier, "deliver")

    async def noted(self: Any, given: Any, path: Path, made: Any) -> None:
        await deliver(self, given, path, made)
        points.note(acknowledged=given.id, digest=made.file.digest)

    put(courier.Courier, "deliver", noted)


def _named(command: Any) -> str:
    """What a trainer is to do."""
    work = command.assigned
    return f"{work.job}.{work.round}.{type(command).__name__.lower()}.{work.client}"


def _watch_streams(points: Points) -> None:
    chunks, store = transfer._chunks, transfer._Download._store

    def watched(fd: int, start: int, stop: int, most: int) -> Iterator[bytes]:
        for chunk in chunks(fd, start, stop, most):
            yield from garbled(chunk, points.reach("chunk up"))

    def stored(self: Any, chunk: Any) -> int:
        points.reach("before chunk down")
        done = store(self, chunk)
        points.reach("after chunk down")
        return done

    put(transfer, "_chunks", watched)
    put(transfer._Download, "_store", stored)


def _watch_calls(points: Points) -> None:
    once, send = session.Session._once, transfer._Upload._send

    async def called(self: Any, method: Any, request: Any, seconds: float) -> Any:
        said = type(request).__name__
        act = points.reach("call", said, str(request))
        if act == "twice":
            answers = [once(self, method, request, seconds) for _ in range(2)]
            return (await asyncio.gather(*answers, return_exceptions=True))[0]
        return _unless_lost(act, await once(self, method, request, seconds))

    async def sent(self: Any, offset: int) -> None:
        act = points.reach("push", self._update.assignment_id)
        if act == "at once twice":
            await asyncio.gather(send(self, offset), send(self, offset), return_exceptions=True)
            raise UnavailableError("which of them came through is to be asked")
        await send(self, offset)
        if act == "twice":
            await send(self, 0)
        _unless_lost(act, None)

    put(session.Session, "_once", called)
    put(transfer._Upload, "_send", sent)


def _unless_lost(act: str | None, answer: Any) -> Any:
    if act == "lose the answer":
        raise UnavailableError("the answer was lost on its way")
    return answer
