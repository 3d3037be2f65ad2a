"""What all tests share: the leak check."""

import gc
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path

import psutil
import pytest

# A shell that starts the tests in the background has them ignore these, and what they start would inherit it. Handlers
# are not inherited: what is started has the usual behaviour again.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler)

GRACE_SECONDS = 5.0
"""Threads and sockets that are being closed may take this long to be gone."""

_FDS = Path("/proc/self/fd")


@dataclass(frozen=True)
class Held:
    """Threads, open files and child processes of this process."""

    threads: frozenset[threading.Thread]
    files: frozenset[tuple[str, str]]
    children: frozenset[int]

    @classmethod
    def now(cls) -> "Held":
        return cls(frozenset(threading.enumerate()), frozenset(_files()), frozenset(_children()))

    def since(self, before: "Held") -> list[str]:
        """What is held now and was not before, in words."""
        return [
            *(f"thread {thread.name}" for thread in self.threads - before.threads),
            *(f"file {target}" for _, target in self.files - before.files),
            *(f"process {pid}" for pid in self.children - before.children),
        ]


def _files() -> Iterator[tuple[str, str]]:
    """Descriptors and what they point to. Empty where there is no /proc.

    gRPC and torch keep pollers and event counters for the life of the process: those do not count.
    """
    tracker = str(getattr(resource_tracker._resource_tracker, "_fd", None))
    for entry in _FDS.iterdir() if _FDS.exists() else ():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # the descriptor of the listing itself
        if not target.startswith("anon_inode:") and entry.name != tracker:
            yield entry.name, target


def _children() -> Iterator[int]:
    for child in psutil.Process().children(recursive=True):
        try:
            helper = any("resource_tracker" in word for word in child.cmdline())
        except psutil.Error:
            continue  # it is gone, or a zombie that its parent is about to reap
        if not helper:
            yield child.pid


@pytest.fixture(autouse=True)
def nothing_leaks() -> Iterator[None]:
    """Fails a test after which a thread, an open file or a child process is left."""
    before = Held.now()
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while left := Held.now().since(before):
        if time.monotonic() > deadline:
            pytest.fail(f"the test left behind: {', '.join(sorted(left))}")
        gc.collect()
        time.sleep(0.02)
