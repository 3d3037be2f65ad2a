"""Adds up what a site has done: bytes by day, rounds by job."""

from collections import defaultdict
from datetime import date, datetime, tzinfo

from fedelta_client.policy import Usage


class Tally:
    """The sums. Days are those of `zone`, which is this machine's where none is given."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._up: defaultdict[date, int] = defaultdict(int)
        self._down: defaultdict[date, int] = defaultdict(int)
        self._rounds: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
        self._counted: dict[int, tuple[date, int]] = {}
        """Of parcels whose fate is not known yet: the day, and the bytes that were counted for them."""

    def sending(self, number: int, time: datetime, count: int) -> None:
        """A parcel leaves. Until more is known it counts with its length."""
        day = self._day(time)
        self._up[day] += count
        self._counted[number] = day, count

    def sent(self, number: int, count: int, *, final: bool) -> None:
        """So many bytes went out for the parcel, all in all. `final`: and no more will."""
        if number not in self._counted:
            return
        day, counted = self._counted.pop(number)
        self._up[day] += count - counted
        if not final:
            self._counted[number] = day, count

    def trained(self, coordinator: str, job: str, round: int) -> None:
        """An update of this round leaves."""
        self._rounds[coordinator, job].add(round)

    def received(self, time: datetime, count: int) -> None:
        """So many bytes were fetched."""
        self._down[self._day(time)] += count

    def usage(self, coordinator: str, job: str, day: date) -> Usage:
        """The sums that matter for a job on a day."""
        return Usage(
            rounds=frozenset(self._rounds.get((coordinator, job), ())),
            uploaded_bytes_today=self._up.get(day, 0),
            downloaded_bytes_today=self._down.get(day, 0),
        )

    def _day(self, time: datetime) -> date:
        return time.astimezone(self._zone).date()
