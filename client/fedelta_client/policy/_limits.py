"""[limits] of a policy: how much of everything."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from fedelta.config import Size
from fedelta_client.policy._hours import until_midnight
from fedelta_client.policy._offer import Declined, Offer, Result, Usage

LEAST_BYTES_PER_SECOND = 1000
"""With less a transfer would pass for stalled."""

Count = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """[limits]: how much, at most. What is left out is not limited; days are those of the site's local time."""

    rounds_per_job: Count | None = None
    """Updates leave the site in so many rounds of a job."""
    min_examples: Count | None = None
    """Updates and evaluations that were made from fewer examples do not leave the site."""
    max_examples: Count | None = None
    """Updates that were made from more examples do not leave the site."""
    upload_bytes_per_day: Size | None = None
    """What leaves the site in a day: updates, initial models, messages."""
    download_bytes_per_day: Size | None = None
    """What is fetched in a day: models."""
    upload_bytes_per_second: Size | None = None
    """Updates and initial models leave no faster."""
    download_bytes_per_second: Size | None = None
    """Models are fetched no faster."""
    spool_bytes: Size | None = None
    """What the spool may hold: two models, the update, what learners keep, the ledger."""
    threads: Count | None = None
    """CPU threads to train with, whatever the client was started with. Read when the client starts."""
    nice: Annotated[int, Meta(ge=0, le=19)] = 0
    """The niceness of training: 19 leaves the machine to everything else. Read when the client starts."""

    def __post_init__(self) -> None:
        """Refuses what cannot work. Raises `ValueError`."""
        for name in ("upload_bytes_per_second", "download_bytes_per_second"):
            rate = getattr(self, name)
            if rate is not None and rate < LEAST_BYTES_PER_SECOND:
                raise ValueError(f"{name} = {rate} is too slow; {LEAST_BYTES_PER_SECOND} is the least")
        if self.min_examples and self.max_examples and self.min_examples > self.max_examples:
            raise ValueError(f"min_examples = {self.min_examples} is more than max_examples = {self.max_examples}")

    def objections(self, offer: Offer, usage: Usage, now: datetime) -> Iterator[Declined]:
        """What speaks against doing it."""
        most = self.rounds_per_job
        if offer.kind == "train" and most and offer.round not in usage.rounds and len(usage.rounds) >= most:
            yield Declined(f"updates have left the site in limits.rounds_per_job = {most} rounds of this job")
        room = self.spool_bytes
        if room is not None and offer.spool_bytes > room:
            yield Declined(f"it takes {offer.spool_bytes} bytes on disk, more than limits.spool_bytes = {room}")
        yield from self._download(offer.download_bytes, usage, now)
        yield from self._upload(offer.upload_bytes, usage, now)

    def objections_to_result(self, result: Result, usage: Usage, now: datetime) -> Iterator[Declined]:
        """What speaks against letting it leave the site. How many examples it was made from is not said."""
        least, most = self.min_examples, self.max_examples
        if least and result.kind != "initialize" and result.examples < least:
            yield Declined(f"it was made from fewer examples than limits.min_examples = {least}")
        if most and result.kind == "train" and result.examples > most:
            yield Declined(f"it was made from more examples than limits.max_examples = {most}")
        yield from self._upload(result.upload_bytes, usage, now)

    def _download(self, needed: int, usage: Usage, now: datetime) -> Iterator[Declined]:
        limit = self.download_bytes_per_day
        return _over("download_bytes_per_day", limit, usage.downloaded_bytes_today, needed, now)

    def _upload(self, needed: int, usage: Usage, now: datetime) -> Iterator[Declined]:
        limit = self.upload_bytes_per_day
        return _over("upload_bytes_per_day", limit, usage.uploaded_bytes_today, needed, now)


def _over(name: str, limit: int | None, used: int, needed: int, now: datetime) -> Iterator[Declined]:
    if limit is None or not needed or used + needed <= limit:
        return
    if needed > limit:
        yield Declined(f"it takes {needed} bytes, more than limits.{name} = {limit}")
    else:
        yield Declined(f"what is left of limits.{name} = {limit} does not suffice today", until_midnight(now))
