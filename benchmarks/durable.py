"""What durability costs: the same rounds with the coordinator's state on the disk and in memory (tmpfs).

The code is the same in both; in memory a sync of a file or of the journal has nothing to do. Two federations run side
by side and take turns, a job at a time, so that both see the same machine.
"""

import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.rounds import SPEED, Case, run_job, running_clients, usage
from fedelta.demo.processes import Federation

MEMORY = Path("/dev/shm")
TURNS = 3


def run(folder: Path) -> None:
    """Prints each case's medians on the disk and in memory."""
    if not MEMORY.is_dir():
        raise SystemExit(f"there is no {MEMORY}: this comparison needs Linux")
    print("clients x model   disk s   memory s   ratio   disk CPU s   memory CPU s   (coordinator CPU, a round)")
    for i, case in enumerate(SPEED):
        with tempfile.TemporaryDirectory(dir=MEMORY) as memory:
            compare(case, folder / f"durable-{i}", Path(memory))


def compare(case: Case, folder: Path, memory: Path) -> None:
    """One case: jobs by turns."""
    with ExitStack() as stack:
        durable = stack.enter_context(running_clients(case, folder / "disk"))
        volatile = stack.enter_context(_in_memory(case, folder / "memory", memory))
        seconds: dict[str, list[float]] = {"disk": [], "memory": []}
        cpu: dict[str, list[float]] = {"disk": [], "memory": []}
        for turn in range(TURNS + 1):
            for name, running in (("disk", durable), ("memory", volatile)):
                before = usage(running.coordinator).cpu_seconds
                took = [closed.seconds for closed in run_job(running, case).rounds]
                if turn:  # the first makes all files anew
                    seconds[name] += took[1:]
                    cpu[name].append((usage(running.coordinator).cpu_seconds - before) / case.rounds)
    disk, volatile_seconds = statistics.median(seconds["disk"]), statistics.median(seconds["memory"])
    print(
        f"{case!s:15} {disk:8.3f} {volatile_seconds:10.3f} {disk / volatile_seconds:7.2f} "
        f"{statistics.median(cpu['disk']):12.3f} {statistics.median(cpu['memory']):14.3f}",
        flush=True,
    )


@contextmanager
def _in_memory(case: Case, folder: Path, memory: Path) -> Iterator[Federation]:
    """A federation whose coordinator keeps its state in `memory`; clients keep theirs on the disk, as in the other."""
    folder.mkdir(parents=True)
    (folder / "coordinator").symlink_to(memory, target_is_directory=True)
    with running_clients(case, folder) as running:
        yield running
