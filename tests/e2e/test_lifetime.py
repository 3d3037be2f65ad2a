"""What processes load, and how they end."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from fedelta.admin import AdminClient, JobState, Outcome
from fedelta.demo.processes import Federation, Process
from tests.e2e.running import finish, job, let_go, run, start, trained

A = {"a": (10, 1.0)}


def maps(pid: int) -> str:
    """The files a process has mapped: its shared libraries among them."""
    path = Path(f"/proc/{pid}/maps")
    if not path.exists():
        pytest.skip("needs /proc")
    return path.read_text()


def test_processes_load_only_what_they_need(running: Federation) -> None:
    start(running, ["a"])
    assert run(running, job(sites=A)).state is JobState.FINISHED
    assert running.coordinator is not None
    coordinator, client = maps(running.coordinator.pid), maps(running.clients["a"].pid)
    (trainer,) = psutil.Process(running.clients["a"].pid).children()
    assert "libtorch" not in coordinator + client + maps(trainer.pid)
    assert "cygrpc" not in maps(trainer.pid)
    # The names are the right ones to look for: those who speak gRPC have it.
    assert "cygrpc" in coordinator
    assert "cygrpc" in client


def test_an_idle_federation_ends_at_the_first_signal(running: Federation) -> None:
    start(running, ["a", "b"])
    assert running.coordinator is not None
    with ended_family(running.coordinator, *running.clients.values()):
        running.coordinator.send_signal(signal.SIGTERM)
        # Held polls last 20 s: they must have been answered.
        assert running.coordinator.wait(8) == 0
        for client, number in zip(running.clients.values(), (signal.SIGTERM, signal.SIGINT), strict=True):
            client.wait_for("no coordinator answers")
            client.send_signal(number)
            assert client.wait(8) == 0


def test_a_client_finishes_its_assignment_or_hands_it_back(running: Federation) -> None:
    start(running, ["a", "b", "c"])
    with AdminClient(running.server) as admin:
        job_id = admin.submit_text(job(acts={"a/1": "hold", "b/1": "hold"}, max=1))
        a, b = running.clients["a"], running.clients["b"]
        with ended_family(a, b):
            for client in (a, b):
                client.wait_for(f"{client.name} holds in round 1")
                client.send_signal(signal.SIGINT)
                client.wait_for("finishing the assignment; press Ctrl-C again to stop now")
            b.send_signal(signal.SIGINT)
            assert b.wait(8) == 130
            let_go(running, "a")
            assert a.wait(8) == 0
        (closed,) = finish(admin, job_id).rounds
    assert trained(closed.clients) == {
        "a": (Outcome.ACCEPTED, ""),
        "b": (Outcome.RETURNED, "the client is shutting down"),
        "c": (Outcome.ACCEPTED, ""),
    }


@contextmanager
def ended_family(*processes: Process) -> Iterator[None]:
    """Of the processes and all that they have started nothing is left at the end of the block."""
    found = [psutil.Process(process.pid) for process in processes]
    family = [member for each in found for member in (each, *each.children(recursive=True))]
    yield
    assert psutil.wait_procs(family, timeout=5)[1] == []
