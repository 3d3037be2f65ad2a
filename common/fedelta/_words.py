"""Numbers, sizes and times in words."""

import re
from collections.abc import Iterable, Mapping
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
    """Metrics for people: "accuracy 0.9432  loss 0.2"; of groups (recall/0, recall/1, ...) the range."""
    plain, groups = grouped(metrics)
    words = {name: f"{name} {value:.4g}" for name, value in plain.items()}
    words |= {name: f"{name}/* {_extent(found.values())}" for name, found in groups.items()}
    return "  ".join(words[name] for name in sorted(words))


def averages(metrics: Mapping[str, float], central: Mapping[str, float]) -> str:
    """What an evaluation gave, for people: the averages over the clients, then those of the central evaluation."""
    found = numbers(metrics), numbers({f"central {name}": value for name, value in central.items()})
    return "  ".join(part for part in found if part)


def grouped(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """The metrics, and those of classes and the like apart: "recall/3" is "3" of the group "recall"."""
    groups: dict[str, dict[str, float]] = {}
    for name in sorted(metrics, key=_naturally):
        group, slash, member = name.partition("/")
        if slash:
            groups.setdefault(group, {})[member] = metrics[name]
    return {name: metrics[name] for name in sorted(metrics) if "/" not in name}, groups


def _extent(values: Iterable[float]) -> str:
    found = list(values)
    return f"{min(found):.4g} to {max(found):.4g}" if len(found) > 1 else f"{found[0]:.4g}"


def _naturally(name: str) -> list[tuple[bool, int, str]]:
    """Orders 2 before 10."""
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]


def when(time: datetime) -> str:
    """A point in time for people: local time, to the second."""
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def short(digest: str) -> str:
    """As much of a digest as tells it apart from others; --json has all of it."""
    return digest[:12]
