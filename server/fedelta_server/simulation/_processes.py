"""Work in several processes, each with learners of its own."""

import contextlib
import multiprocessing
import signal
from collections import OrderedDict
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

from fedelta.errors import FedeltaError, LearnerError
from fedelta_server.simulation._benches import Benches
from fedelta_server.simulation._work import Answer, Setting, Work, described

_EXIT_SECONDS = 5.0
"""A process that is done and does not end within this is made to."""


_GUARD = 'A script that simulates with several workers does so below `if __name__ == "__main__":`, as each imports it.'


@dataclass
class _Worker:
    process: BaseProcess
    line: Connection
    doing: Work | None = None
    begun: bool = False
    """Whether it has answered, ever."""
    homes: set[int] = field(default_factory=set)
    """The clients whose learners it has, or had."""


class Processes:
    """A pool of processes. Use it in a `with` statement. Not for use by several threads."""

    def __init__(self, setting: Setting, count: int) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._setting = setting
        self._count = count
        self._workers: list[_Worker] = []
        self._queue: OrderedDict[str, Work] = OrderedDict()
        self._dropped: set[str] = set()
        """Under way, and not wanted any more."""
        self._answers: dict[str, Answer] = {}

    def __enter__(self) -> Self:
        try:
            self._workers = [self._started() for _ in range(self._count)]
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def begin(self, work: Work) -> None:
        """See `Pool`."""
        self._queue[work.id] = work
        self._hand_out()

    def drop(self, work: Work) -> None:
        """See `Pool`."""
        if self._queue.pop(work.id, None) is None and self._answers.pop(work.id, None) is None:
            self._dropped.add(work.id)

    def result(self, work: Work) -> Answer:
        """See `Pool`. Raises `LearnerError` naming the client where a process dies of its work."""
        while work.id not in self._answers:
            self._hear()
        return self._answers.pop(work.id)

    def _started(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        # No daemons: those may have no children, which a learner's DataLoader with workers needs.
        process = self._context.Process(target=serve, args=(theirs, self._setting), daemon=False)
        try:
            process.start()
        except (AttributeError, TypeError, ValueError) as error:  # what pickle says of lambdas and local classes
            ours.close()
            raise LearnerError(
                f"learner and data cannot be sent to other processes ({error}). Use classes and functions of modules, "
                "or one worker"
            ) from error
        finally:
            theirs.close()
        return _Worker(process, ours)

    def _hand_out(self) -> None:
        for worker in self._workers:
            if worker.doing is None and self._queue:
                worker.doing = self._queue.pop(self._best_for(worker))
                worker.homes.add(worker.doing.index)
                with contextlib.suppress(OSError):  # dead; `_hear` finds that
                    worker.line.send(worker.doing)

    def _best_for(self, worker: _Worker) -> str:
        """The id of what the worker does next: of a client that is at home there, if there is any."""
        mine = (id_ for id_, work in self._queue.items() if work.index in worker.homes)
        return next(mine, next(iter(self._queue)))

    def _hear(self) -> None:
        """Waits until something is done."""
        lines = {worker.line: worker for worker in self._workers if worker.doing is not None}
        for line in wait(list(lines)):
            if isinstance(line, Connection):
                self._take(lines[line])
        self._hand_out()

    def _take(self, worker: _Worker) -> None:
        assert worker.doing is not None  # only such ones are listened to
        try:
            said: Answer | FedeltaError = worker.line.recv()
        except (EOFError, OSError):
            raise LearnerError(self._death(worker, worker.doing)) from None
        worker.begun = True
        if isinstance(said, FedeltaError):
            raise said
        if worker.doing.id in self._dropped:
            self._dropped.remove(worker.doing.id)
        else:
            self._answers[worker.doing.id] = said
        worker.doing = None

    def _death(self, worker: _Worker, work: Work) -> str:
        worker.process.join(_EXIT_SECONDS)
        code = worker.process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with status {code}"
        what = f"the process that worked for client {work.client!r} (round {work.round}, {work.phase}) {how}"
        if code == -signal.SIGKILL:
            return f"{what} (out of memory?)"
        return what if worker.begun else f"{what} before it began. {_GUARD}"

    def _end(self) -> None:
        for worker in self._workers:
            worker.line.close()
            if worker.doing is not None:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_EXIT_SECONDS)
            if worker.process.exitcode is None:
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._workers = []


def serve(line: Connection, setting: Setting) -> None:
    """A process's life: does what it is told until whoever began it hangs up."""
    # Ctrl-C in the terminal reaches all processes; it is for the one that began the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    benches = Benches(setting)
    with contextlib.suppress(EOFError, OSError):
        while True:
            line.send(_answer(benches, line.recv()))


def _answer(benches: Benches, work: Work) -> Answer | FedeltaError:
    try:
        return benches.do(work)
    except FedeltaError as error:
        return error
    except Exception as error:
        return FedeltaError(f"client {work.client!r}: {described(error)}")
