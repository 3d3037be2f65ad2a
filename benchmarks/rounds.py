"""Whole rounds: a real coordinator and real client processes, beside what the machine can do at most.

Plaintext on loopback, evaluation off; every upload is spooled, synced, digested and admitted. Each case is
measured in one run with raw TCP sockets that move the same bytes, and with the disk's fdatasync. The first rounds
make all files anew, on both sides, and are left out; they are slower, most of all where a virtual machine gets its
memory from its host page by page.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.learners import ELEMENTS
from benchmarks.limits import fdatasync_seconds, formula_seconds, raw_tcp_round
from fedelta.admin import AdminClient, JobInfo
from fedelta.demo.processes import Federation, Process, federation

LEARNER = "benchmarks.learners:AddConstant"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Case:
    """So many clients, a model of so many bytes, so many rounds."""

    clients: int
    nbytes: int
    rounds: int

    def __str__(self) -> str:
        size = f"{self.nbytes / 1e9:g} GB" if self.nbytes >= 1e9 else f"{self.nbytes / 1e6:g} MB"
        return f"{self.clients} x {size}"


SPEED = (Case(8, 400_000, 24), Case(8, 40_000_000, 14), Case(2, 400_000_000, 10))
MEMORY = (Case(2, 400_000_000, 2), Case(8, 400_000_000, 2), Case(2, 3_000_000_000, 1))
WARM_UP_ROUNDS = 3


@dataclass(frozen=True)
class Peak:
    """Peak resident memory and processor time of processes."""

    megabytes: float
    cpu_seconds: float


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="large models, peak memory")
    parser.add_argument("--durable", action="store_true", help="what durability costs")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: the temporary directory")
    return parser.parse_args()


def run(folder: Path, *, memory: bool) -> None:
    measure_start(folder / "start")
    print_header()
    for i, case in enumerate(MEMORY if memory else SPEED):
        measure(case, folder / f"case-{i}")


def measure_start(folder: Path) -> None:
    """How soon a coordinator is ready to serve, with the page cache warm."""
    seconds = []
    for i in range(4):
        began = time.perf_counter()
        with federation(folder / str(i)) as running:
            running.start_coordinator()
            seconds.append(time.perf_counter() - began)
    print(f"coordinator ready to serve after {statistics.median(seconds[1:]):.2f} s (median of 3)\n")


def print_header() -> None:
    print(
        "clients x model   round s   formula s   ratio   raw TCP s   ratio   fdatasync s   "
        "coordinator MB   client MB   coordinator CPU s"
    )


def measure(case: Case, folder: Path) -> None:
    """One case: rounds of a federation, then raw sockets."""
    with running_clients(case, folder) as running:
        before = usage(running.coordinator).cpu_seconds
        job = run_job(running, case)
        coordinator = usage(running.coordinator)
        client = max(usage(process).megabytes for process in running.clients.values())
        warm = job.rounds[WARM_UP_ROUNDS:] or job.rounds
        seconds = statistics.median(closed.seconds for closed in warm)
    raw = statistics.median(raw_tcp_round(case.clients, case.nbytes) for _ in range(3))
    formula = formula_seconds(case.clients, case.nbytes)
    sync = statistics.median(fdatasync_seconds(case.nbytes, folder) for _ in range(3))
    cpu = (coordinator.cpu_seconds - before) / case.rounds
    print(
        f"{case!s:15} {seconds:9.3f} {formula:11.3f} {seconds / formula:7.2f} {raw:11.3f} {seconds / raw:7.2f} "
        f"{sync:13.3f} {coordinator.megabytes:16.0f} {client:11.0f} {cpu:19.3f}",
        flush=True,
    )


@contextmanager
def running_clients(case: Case, folder: Path) -> Iterator[Federation]:
    """A federation with all its clients connected."""
    environment = {ELEMENTS: str(case.nbytes // 4), "PYTHONPATH": str(ROOT)}
    with federation(folder, environment) as running:
        running.start_coordinator()
        for i in range(case.clients):
            running.start_client(f"client-{i}", LEARNER)
        for client in running.clients.values():
            client.wait_for("connected", 60)
        yield running


def run_job(running: Federation, case: Case) -> JobInfo:
    toml = (
        f'[job]\nname = "bench"\n[model]\ninit = "first-client"\n[evaluate]\nevery = 0\n'
        f"[rounds]\nmax = {case.rounds}\nclients = {case.clients}\n"
    )
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(toml)
        for _ in admin.watch(job_id):
            pass
        return admin.get(job_id)


def usage(process: Process | None) -> Peak:
    """Peak memory and processor time of a process and its children, each at its own peak."""
    if process is None:
        raise ValueError("the process was not started")
    root = psutil.Process(process.pid)
    tree = [root, *root.children(recursive=True)]
    times = [each.cpu_times() for each in tree]
    return Peak(sum(map(high_water, tree)), sum(each.user + each.system for each in times))


def high_water(process: psutil.Process) -> float:
    """VmHWM in MB."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1000
