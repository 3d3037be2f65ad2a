"""The coordinator: feeds events to the engine, commits its records, then runs its effects.

Everything here runs on one event loop, so that the engine has one caller. Disk work goes to threads.
"""

import asyncio
import functools
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from fedelta._logs import about
from fedelta.errors import FedeltaError, StorageError
from fedelta_server import narration
from fedelta_server._tasks import Calls, wait_out
from fedelta_server.engine import Assignment, Engine, Step, effects, events, records
from fedelta_server.folding import make_version
from fedelta_server.presence import Presence
from fedelta_server.retention import KEEP_VERSIONS, Best, Keep
from fedelta_server.store.files import Files
from fedelta_server.store.journal import Journal

_log = logging.getLogger(__name__)

T = TypeVar("T")

RESUME_SECONDS = 1.0
"""After a commit that failed, what was under way is taken up again this much later."""

_IO_THREADS = 4


class _Where(TypedDict):
    job: str
    round: int
    attempt: int


class Coordinator:
    """The running system: one engine, its journal and its files.

    Use `start` before anything else, on the event loop it is to live on, and `close` at the end.
    """

    def __init__(self, journal: Journal, files: Files, keep: Keep = KEEP_VERSIONS) -> None:
        self.journal = journal
        self.files = files
        self.engine = Engine()
        self.draining = False
        self.calls = Calls()
        """The calls that are being answered."""
        self._keep = keep
        self._best = Best(journal)
        self._io = ThreadPoolExecutor(_IO_THREADS, thread_name_prefix="io")
        self._folds = ThreadPoolExecutor(1, thread_name_prefix="fold")
        self._work: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._polls: dict[str, object] = {}
        """The newest poll of each client, by name."""
        self._news = asyncio.Event()
        self._presence = Presence()
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rebuilding = asyncio.Lock()

    def now(self) -> float:
        """Seconds on the clock that events carry."""
        return asyncio.get_running_loop().time()

    async def start(self) -> None:
        """Rebuilds the engine from the journal and goes on where it was."""
        self.engine = await self.in_thread(self._committed_engine)
        states = {job.id: self._keep.states(job) for job in self.engine.book.jobs.values()}
        await self.in_thread(self.files.sweep, self._live_rounds(), states)
        self._drop_models([made.digest for job in self.engine.book.jobs.values() for made in job.pruned_versions()])
        await self._settle(self.engine.resume(self.now()))
        for job in list(self.engine.book.jobs):
            self._start_task(self._prune(job))

    async def drain(self) -> None:
        """Answers all held polls and watches; takes no further ones."""
        self.draining = True
        self._wake(list(self._work))
        self._tell_watchers()

    async def close(self) -> None:
        """Waits for what was begun, then closes the journal."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        self._folds.shutdown()
        self._io.shutdown()
        self.journal.close()

    async def in_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Runs blocking work off the event loop. A cancellation of the caller takes effect when the work is done."""
        work = asyncio.get_running_loop().run_in_executor(self._io, function, *args)
        if await wait_out(work):
            raise asyncio.CancelledError
        return work.result()

    async def dispatch(self, event: events.Event) -> Step:
        """Lets the engine decide on an event; returns when what it decided is on disk and under way.

        Raises what the engine raises, or `StorageError` where the decision could not be committed.
        """
        step = self.engine.handle(event)
        await self._settle(step)
        return step

    def note(self, event: events.Event) -> None:
        """Tells the engine of something that needs no commit: a sign of life, bytes that moved.

        A session that is gone meanwhile does not matter here.
        """
        try:
            step = self.engine.handle(event)
        except FedeltaError:
            return
        if step.records:
            self._start_task(self._carry_out(step, self.engine))
        else:
            self._arm_timer()

    async def settled(self) -> None:
        """Returns when all that was decided so far is on disk: before, nothing of it may be told as a fact.

        Raises `StorageError` where it could not be committed.
        """
        await self._settle(Step())

    async def next_assignment(self, session: str, wait_seconds: float, running: Sequence[str]) -> Assignment | None:
        """Waits for work for a client. None: there is none yet."""
        client = self.engine.clients.of_session(session)
        self._presence.polls(client)
        step = self.engine.handle(events.PollStarted(at=self.now(), session=session))
        disconnected = True
        try:
            await self._settle(step)
            found = await self._await_work(session, wait_seconds, running)
            disconnected = False
        finally:
            self.note(events.PollEnded(at=self.now(), session=session, disconnected=disconnected))
            if disconnected:
                self._presence.broke_off(client)
        if found is not None:
            self.note(events.AssignmentTaken(at=self.now(), session=session, assignment=found.id))
        return found

    def news(self) -> asyncio.Event:
        """An event that is set when something is committed from now on, or the coordinator drains."""
        return self._news

    async def _await_work(self, session: str, wait_seconds: float, running: Sequence[str]) -> Assignment | None:
        until = self.now() + wait_seconds
        name = self.engine.clients.of_session(session).name
        poll = self._polls[name] = object()
        # An older one may be held on a connection that is dead by now, and would take the work with it.
        self._wake([name])
        while self._polls[name] is poll:
            found = self.engine.pending(session, running)
            if found is not None or self.draining:
                return found
            work = self._work[name]
            work.clear()
            try:
                async with asyncio.timeout_at(until):
                    await work.wait()
            except TimeoutError:
                break
        return None

    async def _settle(self, step: Step) -> None:
        """Commits and runs a step to the end, even where the caller is cancelled meanwhile."""
        await asyncio.shield(self._start_task(self._carry_out(step, self.engine)))

    async def _carry_out(self, step: Step, engine: Engine) -> None:
        """Commits what an engine decided, then runs the effects."""
        if engine is not self.engine:
            raise StorageError("what this rests on could not be written to the journal; try again")
        # A step without records waits as well: it may rest on records that are not committed yet.
        try:
            await asyncio.wrap_future(self.journal.append(step.records))
        except StorageError as error:
            await self._rebuild(engine, error)
            raise
        for record in step.records:
            narration.tell(record)
        for effect in step.effects:
            self._run(effect)
        if step.records:
            self._tell_watchers()
        for record in step.records:
            if isinstance(record, records.JobStateChanged):
                self._start_task(self._tidy())
            elif isinstance(record, records.RoundClosed | records.EvaluationClosed):
                self._start_task(self._drop_states(record.job))
                self._start_task(self._prune(record.job))
        self._arm_timer()

    def _committed_engine(self) -> Engine:
        """An engine that believes what is on disk."""
        return Engine(self.journal.committed())

    async def _rebuild(self, engine: Engine, error: StorageError) -> None:
        """Throws away an engine that believes what is not on disk. Clients register again."""
        async with self._rebuilding:
            if engine is not self.engine:
                return
            with about():
                _log.error("%s; going on from what is committed", error.message)
            rebuilt = await self.in_thread(self._committed_engine)
            # Not before: until here the old engine may have decided more, which the journal must not take.
            self.engine = rebuilt
            self.journal.recover()
            self._wake(list(self._work))
            self._start_task(self._resume(rebuilt))

    async def _resume(self, engine: Engine) -> None:
        # Not at once: a disk that refused a commit is likely to refuse the next, and what is resumed may be a fold.
        await asyncio.sleep(RESUME_SECONDS)
        if engine is self.engine:
            await self._carry_out(engine.resume(self.now()), engine)

    def _run(self, effect: effects.Effect) -> None:
        if isinstance(effect, effects.Wake):
            self._wake(effect.clients)
        elif isinstance(effect, effects.Fold):
            self._start_task(self._fold(effect))
        elif isinstance(effect, effects.DropModels):
            self._drop_models(effect.digests)
        elif isinstance(effect, effects.DropParts):
            self._start_task(self._drop_parts(effect))
        else:
            self._start_task(self._drop_updates(effect))

    def _wake(self, clients: Sequence[str]) -> None:
        for name in clients:
            self._work[name].set()

    def _tell_watchers(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def _start_task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, FedeltaError):
            _log.error("a task failed", exc_info=error)

    def _arm_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self.engine.wake_at()
        if wake_at is not None and not self.draining:
            self._timer = asyncio.get_running_loop().call_at(wake_at, self._time_passed)

    def _time_passed(self) -> None:
        self._start_task(self._carry_out(self.engine.handle(events.TimePassed(at=self.now())), self.engine))

    async def _fold(self, effect: effects.Fold) -> None:
        try:
            loop = asyncio.get_running_loop()
            job = self.engine.book.job(effect.job)
            made = await loop.run_in_executor(self._folds, make_version, self.files, job, effect)
        except Exception as error:  # whatever it is, the job must not wait for this fold for ever
            with about(job=effect.job, round=effect.round):
                _log.error("the updates could not be aggregated", exc_info=error)
            await self.dispatch(events.FoldFailed(at=self.now(), reason=str(error) or repr(error), **_where(effect)))
        else:
            await self.dispatch(events.Folded(at=self.now(), **_where(effect), **vars(made)))

    async def _drop_updates(self, effect: effects.DropUpdates) -> None:
        try:
            which = (effect.job, effect.round, effect.attempt)
            if effect.folded:
                await self.in_thread(self.files.end_round, *which, self._keep.updates)
            else:
                await self.in_thread(self.files.drop_updates, *which)
        except (FedeltaError, OSError) as error:
            with about(job=effect.job, round=effect.round):
                _log.warning("its updates stay on disk: %s", error)

    async def _drop_parts(self, effect: effects.DropParts) -> None:
        kept = self._keep.with_updates(self.engine.book.job(effect.job))
        before = min([effect.oldest, *(round_ for _, round_, _ in kept)])
        drop = functools.partial(self.files.drop_parts, updates=not (effect.folded and self._keep.updates))
        try:
            await self.in_thread(drop, effect.job, effect.parts, before)
        except (FedeltaError, OSError) as error:
            with about(job=effect.job):
                _log.warning("its updates stay on disk: %s", error)

    async def _drop_states(self, job_id: str) -> None:
        """Removes what the plan of a job kept beside versions that it will not go on from."""
        job = self.engine.book.job(job_id)
        if job.model is not None and job.versions[job.model.version].state is not None:
            await self.in_thread(self.files.drop_states, job_id, self._keep.states(job).start)

    async def _prune(self, job_id: str) -> None:
        """Gives up the versions of a job that the operator does not want to be kept."""
        if not self._keep.versions:
            return
        evaluate = self.engine.book.job(job_id).spec.evaluate
        best = await self.in_thread(self._best.of, job_id, evaluate)
        versions = self._keep.prunable(self.engine.book.job(job_id), best)
        if versions:
            await self.dispatch(events.PruneRequested(at=self.now(), job=job_id, versions=versions))

    def _drop_models(self, digests: Sequence[bytes]) -> None:
        """Removes model files that are neither a kept version of any job nor what a job starts from.

        They lose their names here and now. A job that is submitted meanwhile finds either file or error.
        """
        jobs = self.engine.book.jobs.values()
        needed = {model.digest for job in jobs for model in job.kept_versions()}
        try:
            aside = [path for each in set(digests) - needed if (path := self.files.put_aside(each)) is not None]
        except FedeltaError as error:
            _log.warning("a pruned version stays on disk until the next start: %s", error)
            return
        self._start_task(self._remove(aside))

    async def _remove(self, aside: Sequence[Path]) -> None:
        for path in aside:
            await self.in_thread(self.files.remove, path)

    async def _tidy(self) -> None:
        """When no job runs, disk space is not kept for uploads to come."""
        if not any(job.runnable for job in self.engine.book.jobs.values()):
            await self.in_thread(self.files.drop_spares)

    def _live_rounds(self) -> set[tuple[str, int, int]]:
        """The rounds whose updates are still to be folded, and those whose updates are kept."""
        jobs = self.engine.book.jobs.values()
        open_rounds = {(job.id, job.round.number, job.round.attempt) for job in jobs if job.round is not None}
        for job in jobs:
            open_rounds |= {(job.id, *source) for source in (job.buffer.sources() if job.buffer else ())}
        return open_rounds.union(*map(self._keep.with_updates, jobs))


def _where(effect: effects.Fold) -> _Where:
    return {"job": effect.job, "round": effect.round, "attempt": effect.attempt}
