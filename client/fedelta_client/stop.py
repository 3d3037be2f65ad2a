"""Signals: a first one to end lets the client finish what it does, a second one ends it at once; SIGHUP rereads."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

log = logging.getLogger("fedelta.client")

T = TypeVar("T")


class Stop:
    """Whether and how the client is to end."""

    def __init__(self, on_hurry: Callable[[], None], on_reread: Callable[[], None]) -> None:
        self._on_hurry = on_hurry
        self._on_reread = on_reread
        self._at_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN
        self.drain = asyncio.Event()
        """Take no new work."""
        self.now = asyncio.Event()
        """Drop the work at hand, too."""
        self.busy = False
        """Whether there is work at hand."""
        self.exit_code = 0

    def install(self) -> None:
        """Listens to SIGINT, SIGTERM and SIGHUP, for as long as the event loop lives."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self.hang_up)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.request, number)

    def hang_up(self) -> None:
        """SIGHUP came: the terminal is gone, or a daemon is to read its files again."""
        if self._at_terminal and not _has_terminal():
            self.request(signal.SIGHUP)
        else:
            self._on_reread()

    def request(self, number: int) -> None:
        """A signal to end came."""
        if self.drain.is_set():
            self.exit_code = 128 + number
            self._on_hurry()
            self.now.set()
            return
        if self.busy:
            log.info("finishing the assignment; press Ctrl-C again to stop now")
        self.drain.set()


def _has_terminal() -> bool:
    """Whether a terminal controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


async def unless(event: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """What `work` returns; None where the event comes first, and then `work` is cancelled."""
    task, waiter = asyncio.create_task(work), asyncio.create_task(event.wait())
    try:
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
    finally:
        task.cancel()
        waiter.cancel()
        await asyncio.wait((task, waiter))
    return None if task.cancelled() else task.result()
