"""Numbers, sizes and times in words."""

from collections.abc import Mapping
from datetime import datetime


def plural(count: int, noun: str) -> str:
    """ "1 round", "2 rounds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def times(count: int) -> str:
    """ "once", "twice", "3 times"."""
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"


def span(seconds: float) -> str:
    """A length of time for people: "0.25 s", "12.5 s", "3m 20s", "2h 05m", "4d 02h"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours < 24 else f"{hours // 24}d {hours % 24:02}h"


def numbers(metrics: Mapping[str, float]) -> str:
    """Metrics for people: "accuracy 0.9432  loss 0.2"."""
    return "  ".join(f"{name} {value:.4g}" for name, value in sorted(metrics.items()))


def when(time: datetime) -> str:
    """A point in time for people: local time, to the second."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def short(digest: str) -> str:
    """As much of a digest as tells it apart from others; --json has all of it."""
    return digest[:12]
