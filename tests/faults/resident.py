"""The resident federation: real processes that take fault after fault, and are started again when they die of it."""

import os
import queue
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fedelta.admin import AdminClient, JobState, StateChanged
from fedelta.demo.processes import Process
from fedelta.errors import UnavailableError
from tests.faults.learners import NAMES, UNEVEN
from tests.faults.orders import Orders
from tests.faults.wire import Wires

COORDINATOR = "coordinator"
ENDED, PAUSED = "the job has ended", "the job is paused"

PATIENCE_SECONDS = 40.0
"""A job that is not done after this much without any news is stuck."""

_ROOT = Path(__file__).parents[2]
_FOREVER_SECONDS = 1e6
_PATHS = [_ROOT, *(_ROOT / part for part in ("common", "server", "client"))]
_ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(map(str, _PATHS)), "OPENBLAS_NUM_THREADS": "1"}


class Resident:
    """A coordinator, clients, and a connection for each that can be disturbed."""

    def __init__(self, folder: Path, wires: Wires, port: int) -> None:
        self.folder = folder
        self.server = f"127.0.0.1:{port}"
        self.journal = folder / "state" / "journal.db"
        self.processes: dict[str, Process] = {}
        self._wires = wires
        self._ends: dict[str, str] = {}
        self._watchers: list[threading.Thread] = []
        self._news: queue.Queue[str] = queue.Queue()
        self._stopping = False

    def orders(self, whom: str) -> Orders:
        """Where orders are given to "coordinator", to a client "a", its "a.trainer" or its "a.wire"."""
        return Orders(self.folder / "orders" / whom)

    def acknowledged(self, job: str) -> set[str]:
        """The assignments of the job whose updates were acknowledged to clients."""
        found = (note.get("acknowledged", "") for name in NAMES for note in self.orders(name).notes())
        return {each for each in found if each.startswith(f"{job}.") and ".train." in each}

    def trainings(self, job: str) -> Counter[tuple[int, str]]:
        """How often each client began to train in each round."""
        notes = (note for name in NAMES for note in self.orders(f"{name}.trainer").notes())
        parts = (note["trained"].split(".") for note in notes if note.get("trained", "").startswith(f"{job}."))
        return Counter((int(round_), client) for _, round_, client in parts)

    def start(self) -> None:
        """Starts everything; returns when the clients are connected."""
        self._start(COORDINATOR)
        self.processes[COORDINATOR].wait_for("coordinator ready")
        for name in NAMES:
            self._ends[name] = self._wires.lay(self.orders(f"{name}.wire").folder)
            self._start(name)
        for name in NAMES:
            self.processes[name].wait_for("connected")

    def run(self, job: str) -> None:
        """Runs a job to its end: starts again what dies, and resumes the job where it pauses.

        Raises `AssertionError` where it gets stuck.
        """
        with AdminClient(self.server) as admin:
            job_id = self._submit(admin, job)
            follower = threading.Thread(target=self._follow, args=(job_id,), name=f"follows {job_id}")
            follower.start()
            try:
                while (news := self._news.get(timeout=PATIENCE_SECONDS)) != ENDED:
                    self._hear(news, admin, job_id)
            except queue.Empty:
                waiting_for = admin.get(job_id).waiting_for
                admin.stop(job_id)
                raise AssertionError(f"{job_id} is stuck: {waiting_for or 'a round does not end'}") from None
            finally:
                follower.join()

    def _submit(self, admin: AdminClient, job: str) -> str:
        """Submits a job, also where the last fault of the one before has hit the coordinator after that one's end."""
        while True:
            try:
                return admin.submit_text(job)
            except UnavailableError:
                self._hear(self._news.get(timeout=PATIENCE_SECONDS), admin)
                self.processes[COORDINATOR].wait_for("coordinator ready")

    def _hear(self, news: str, admin: AdminClient, job_id: str = "") -> None:
        """Does what the news asks for."""
        if news != PAUSED:
            self._start(news)
            return
        try:
            admin.resume(job_id)
        except UnavailableError:
            # What is to be heard before this is that the coordinator is dead.
            self._news.put(PAUSED)

    def _follow(self, job_id: str) -> None:
        """Tells how the job goes on; waits out what happens to the coordinator."""
        with AdminClient(self.server, patience=PATIENCE_SECONDS) as admin:
            try:
                for event in admin.watch(job_id):
                    if isinstance(event.what, StateChanged) and event.what.state is JobState.PAUSED:
                        self._news.put(PAUSED)
            finally:
                self._news.put(ENDED)

    def _start(self, name: str) -> None:
        orders = self.orders(name)
        program = ("-m", "tests.faults.launch", str(orders.folder))
        process = Process(name, self._command(name), self.folder / f"{name}.log", _ENVIRONMENT, program=program)
        self.processes[name] = process
        watcher = threading.Thread(target=self._await_end, args=(name, process), name=f"watches {name}")
        self._watchers.append(watcher)
        watcher.start()

    def _command(self, name: str) -> list[str]:
        if name == COORDINATOR:
            return ["server", "--state", str(self.folder / "state"), "--port", self.server.rpartition(":")[2], "-v"]
        server, spool = self._ends[name], str(self.folder / "spools" / name)
        options = ["--learner", UNEVEN, "--spool", spool, "--keepalive-seconds", "1", "-v"]
        return ["client", "--server", server, "--name", name, *options]

    def _await_end(self, name: str, process: Process) -> None:
        process.wait(_FOREVER_SECONDS)
        if not self._stopping:
            self._news.put(name)

    def stop(self) -> None:
        """Stops everything."""
        self._stopping = True
        for name in (*NAMES, COORDINATOR):
            if name in self.processes:
                self.processes[name].stop()
        for watcher in self._watchers:
            watcher.join()


@contextmanager
def resident(folder: Path) -> Iterator[Resident]:
    """A federation that is up, and stopped at the end, whatever happens."""
    with ExitStack() as stack:
        port = _free_port()
        wires = stack.enter_context(Wires(f"127.0.0.1:{port}"))
        found = Resident(folder, wires, port)
        stack.callback(found.stop)
        found.start()
        yield found


def _free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])
