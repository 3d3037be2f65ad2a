"""Waiting for work that cannot be stopped."""

import asyncio
from typing import Any


async def wait_out(work: "asyncio.Future[Any]") -> bool:
    """Waits until the work is done; returns whether the caller was cancelled meanwhile, which is then its to raise.

    A thread goes on when the task that waits for it is cancelled. Whoever closes its file or starts the next piece
    of work then would do so under its feet.
    """
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            cancelled = True
    return cancelled
