"""The policy file as a whole, and its verdicts."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fedelta.config import bind
from fedelta.errors import ConfigError
from fedelta_client.policy._hours import Window, until_open
from fedelta_client.policy._limits import Limits
from fedelta_client.policy._offer import Accepted, Declined, Kind, Offer, Result, Usage, Verdict
from fedelta_client.policy._values import Rules


@dataclass(frozen=True, kw_only=True)
class Jobs:
    """[jobs]: what the site takes part in. Patterns are as in a shell: "digits-*"."""

    names: tuple[str, ...] = ("*",)
    """Patterns of the names of jobs."""
    learners: tuple[str, ...] = ("*",)
    """Patterns of the names of learners."""
    kinds: tuple[Kind, ...] = ("train", "evaluate", "initialize")
    """The kinds of work: "train", "evaluate", "initialize" (build the initial model)."""

    def objections(self, offer: Offer) -> Iterator[Declined]:
        """What speaks against doing it."""
        for key, name, patterns in (
            ("names", offer.job_name, self.names),
            ("learners", offer.learner, self.learners),
            ("kinds", offer.kind, self.kinds),
        ):
            if not any(fnmatchcase(name, pattern) for pattern in patterns):
                yield Declined(f"jobs.{key} does not list {name!r}")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a site takes part in. An empty policy takes part in everything."""

    jobs: Jobs = Jobs()
    """What the site takes part in."""
    train: Rules | None = None
    """[train.KEY]: where there is any, jobs may set no other keys of [train]. KEY may be a pattern: "schedule.*"."""
    model_arguments: Rules | None = None
    """[model_arguments.KEY]: the same for [model.arguments]."""
    hours: tuple[Window, ...] = ()
    """When work is begun."""
    limits: Limits = field(default_factory=Limits)
    """How much, at most."""

    def judge(self, offer: Offer, usage: Usage, now: datetime) -> Verdict:
        """Whether the site does it, before anything is fetched. `now` is the site's local time, with its zone."""
        return _verdict(
            [
                *self.jobs.objections(offer),
                *_set("train", self.train, offer.train),
                *_set("model_arguments", self.model_arguments, offer.model_arguments),
                *self.limits.objections(offer, usage, now),
                *self._closed(now),
            ]
        )

    def judge_result(self, result: Result, usage: Usage, now: datetime) -> Verdict:
        """Whether the result leaves the site: what cannot be known before the work is done."""
        return _verdict(self.limits.objections_to_result(result, usage, now))

    def _closed(self, now: datetime) -> Iterator[Declined]:
        left = until_open(self.hours, now)
        if left:
            yield Declined("it is outside of the policy's hours", left)


def load_policy(path: Path) -> Policy:
    """Reads a policy file. Raises `ConfigError`, which names what is wrong and the remedy."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return bind(Policy, table, str(path))


def _set(section: str, rules: Rules | None, table: Mapping[str, Any]) -> Iterator[Declined]:
    if rules is not None:
        yield from map(Declined, rules.complaints(table, section))


def _verdict(objections: Iterable[Declined]) -> Verdict:
    """The gravest of them: one that time does not heal, or else the one that takes longest."""
    never = timedelta.max
    return max(objections, key=lambda each: never if each.retry_after is None else each.retry_after, default=Accepted())
