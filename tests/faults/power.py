"""Power cuts: the state directory as it would be found after one at each step of a job, and the job's end from there.

The coordinator runs in this process, on a disk that forgets. SIGKILL cannot show what this shows: the kernel keeps what
a killed process wrote.
"""

import asyncio
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedelta.v1 import admin_pb2 as admin
from fedelta_server.store.journal import Journal
from tests.faults.disk import ForgetfulDisk
from tests.faults.patching import put, taken
from tests.server.rpc.harness import Client, System, job_toml, running, update_file

PATIENCE_SECONDS = 20.0
NAMES = ("a", "b")
ROUNDS = 2
MOMENTUM = '[server_optimizer]\nname = "sgd"\nmomentum = 0.5\n'
"""The model depends on what is kept beside the version before it, too."""
JOURNAL = ("journal.db", "journal.db-wal")
"""SQLite syncs them by itself, at each commit; that it is told to is under test elsewhere."""


def update(assignment: str) -> bytes:
    """The client's update of a round: different for each."""
    _, round_, _, _, client = assignment.rsplit(".", 4)
    return update_file(int(round_) + 0.25 * NAMES.index(client))


@dataclass
class Photo:
    """The state directory after a power cut at a step, and what was acknowledged by then."""

    step: str
    state: Path
    acknowledged: frozenset[str]


@dataclass
class Photographer:
    """Takes a photo at each step."""

    state: Path
    album: Path
    keep_names: bool
    disk: ForgetfulDisk = field(init=False)
    acknowledged: set[str] = field(default_factory=set)
    photos: list[Photo] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.disk = ForgetfulDisk(self.take)

    def take(self, step: str) -> None:
        with self._lock:
            photo = self.album / str(len(self.photos))
            self.disk.develop(self.state, photo, keep_names=self.keep_names)
            for name in JOURNAL:
                (photo / name).unlink(missing_ok=True)
                if (self.state / name).exists():
                    shutil.copy(self.state / name, photo)
            self.photos.append(Photo(step, photo, frozenset(self.acknowledged)))

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Commits are steps, too, and no photo is taken in the midst of one."""
        insert = taken(Journal, "_insert")

        def watched(journal: Journal, batch: Any) -> Any:
            with self._lock:
                self.take(f"before commit {batch}")
                outcome = insert(journal, batch)
                self.take(f"after commit {batch}")
            return outcome

        put(Journal, "_insert", watched)
        try:
            yield
        finally:
            put(Journal, "_insert", insert)


async def work(system: System, name: str, asked: set[str], acknowledged: set[str]) -> None:
    """Does whatever is asked of a client."""
    client: Client = await system.joined(name)
    while True:
        assignment = (await client.work()).id
        asked.add(assignment)
        await client.push(assignment, update(assignment), examples=3 + NAMES.index(name))
        acknowledged.add(assignment)


async def finish(system: System, job_id: str, acknowledged: set[str]) -> tuple[bytes, set[str]]:
    """Has the job done; returns its model, and what was asked for meanwhile."""
    asked: set[str] = set()
    workers = [asyncio.ensure_future(work(system, name, asked, acknowledged)) for name in NAMES]
    end = asyncio.ensure_future(ended(system, job_id))
    try:
        # A worker ends only where it is refused.
        done, _ = await asyncio.wait([end, *workers], timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        assert end in done, [worker.exception() for worker in workers if worker.done()]
        end.result()
    finally:
        for task in (end, *workers):
            task.cancel()
        await asyncio.gather(end, *workers, return_exceptions=True)
    return (await system.download(job_id))[1], asked


async def ended(system: System, job_id: str) -> None:
    """Waits for the end of the job; one that pauses has lost something."""
    async for message in system.operator.WatchJob(admin.WatchJobRequest(job_id=job_id)):
        changed = message.event.state_changed
        assert changed.state != admin.JOB_STATE_PAUSED, changed.reason


async def photographed(photographer: Photographer) -> bytes:
    """A job from its beginning to its end."""
    async with running(photographer.state, photographer.disk) as system:
        rounds = f"max = {ROUNDS}\nclients = {len(NAMES)}"
        job_id = await system.submit(f"{job_toml(rounds)}{MOMENTUM}")
        return (await finish(system, job_id, photographer.acknowledged))[0]


async def after(photo: Photo, model: bytes) -> None:
    """Starts the coordinator again after the cut.

    Raises `AssertionError` or a `FedeltaError` where something that was acknowledged is gone or asked for again, or
    the model is another one.
    """
    async with running(photo.state) as system:
        jobs = (await system.operator.ListJobs(admin.ListJobsRequest())).jobs
        assert jobs or not photo.acknowledged, f"{photo.step}: the job is gone"
        if jobs:
            found, asked = await finish(system, jobs[0].id, set())
            assert not asked & photo.acknowledged, f"{photo.step}: asked for again"
            assert found == model, f"{photo.step}: another model"


def shoot(folder: Path, *, keep_names: bool) -> tuple[Photographer, bytes]:
    """Photos of all steps of a job, and its model."""
    state, album = folder / "state", folder / "album"
    state.mkdir(parents=True)
    album.mkdir()
    photographer = Photographer(state, album, keep_names)
    with photographer.watching():
        model = asyncio.run(photographed(photographer))
    photographer.disk.close()
    return photographer, model


def cut(photos: Iterable[Photo], model: bytes) -> None:
    """A power cut at each of the photos. Raises what `after` raises."""
    for photo in photos:
        asyncio.run(after(photo, model))
