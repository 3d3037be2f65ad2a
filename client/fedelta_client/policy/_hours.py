"""[[hours]]: when a site works."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Annotated, ClassVar, Literal, Self

from msgspec import Meta

from fedelta.config import Notes

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_PATTERN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)")
_MINUTES_PER_DAY = 24 * 60


class ClockTime(int):
    """A time of day in minutes since midnight, written like "20:00"."""

    NOUN: ClassVar[str] = "time of day"

    @classmethod
    def parse(cls, written: object) -> Self:
        """Reads a time of day. Raises `ValueError` where it is none."""
        if isinstance(written, time):  # TOML has them, too
            return cls(60 * written.hour + written.minute)
        match = _PATTERN.fullmatch(written) if isinstance(written, str) else None
        if match is None:
            raise ValueError(f'expected a time of day such as "08:30", got {written!r}')
        return cls(60 * int(match[1]) + int(match[2]))


MIDNIGHT = ClockTime(0)
At = Annotated[ClockTime, Notes(default="midnight")]


@dataclass(frozen=True, kw_only=True)
class Window:
    """[[hours]]: when work is begun, in the local time of the site. None: at any time. Work under way is finished."""

    days: Annotated[tuple[Day, ...], Meta(min_length=1)] = DAYS
    """The days on which it begins: "mon" to "sun"."""
    start: At = MIDNIGHT
    """When it begins: "20:00"."""
    end: At = MIDNIGHT
    """When it ends: "06:00". An end that is not after the start is on the next day."""

    def around(self, now: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Begin and end of those from yesterday to a week ahead."""
        length = timedelta(minutes=(self.end - self.start) % _MINUTES_PER_DAY or _MINUTES_PER_DAY)
        for ahead in range(-1, 8):
            day = now.date() + timedelta(days=ahead)
            if DAYS[day.weekday()] in self.days:
                begin = datetime.combine(day, time(*divmod(self.start, 60)), now.tzinfo)
                yield begin, begin + length


def until_open(windows: Sequence[Window], now: datetime) -> timedelta:
    """How long until one of the windows is open; zero where one is, or where there are none."""
    spans = [span for window in windows for span in window.around(now)]
    if not windows or any(begin <= now < end for begin, end in spans):
        return timedelta(0)
    return min(begin for begin, _ in spans if begin > now) - now


def until_midnight(now: datetime) -> timedelta:
    """How long until the next day begins."""
    return datetime.combine(now.date() + timedelta(days=1), time(), now.tzinfo) - now
