"""What a policy judges, and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

Kind = Literal["train", "evaluate", "initialize"]


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A piece of work that a coordinator has for this site."""

    job_name: str
    learner: str
    kind: Kind
    round: int
    train: Mapping[str, Any]
    """The job's [train] table."""
    model_arguments: Mapping[str, Any]
    """The job's [model.arguments] table."""
    download_bytes: int
    """Still to be fetched before the work can begin."""
    upload_bytes: int
    """What the result will take, as far as one can tell."""
    spool_bytes: int
    """What the spool would hold with it."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came out of the work, before any of it leaves the site."""

    kind: Kind
    examples: int
    """It was made from so many."""
    upload_bytes: int
    """What sending it takes."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What this site has done so far."""

    rounds: frozenset[int] = frozenset()
    """The rounds of the offer's job from which updates left the site."""
    uploaded_bytes_today: int = 0
    downloaded_bytes_today: int = 0


@dataclass(frozen=True)
class Accepted:
    """The site takes part."""


@dataclass(frozen=True)
class Declined:
    """The site does not take part."""

    reason: str
    """For the operator of the job: it leaves the site, so it tells of the policy and never of the data."""
    retry_after: timedelta | None = None
    """When time heals it. None: time does not."""


Verdict = Accepted | Declined
