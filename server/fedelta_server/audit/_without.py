"""What a job's model would be without a site, as far as its updates are kept.

Two questions are answered, and neither is what training without the site would have given, since the other sites
trained from models that the site had a part in:

- What did it add to each round: the round's other updates are folded into the model that the round started from.
- What is left of the newest model without it: from the model before the first round whose updates are kept, all kept
  updates of the others are folded, round after round.
"""

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fedelta._words import plural
from fedelta.errors import NotFoundError, StorageError
from fedelta_server.aggregate import distance, file_digest
from fedelta_server.audit._chain import Told
from fedelta_server.audit._verify import Audit, Point


@dataclass(frozen=True, kw_only=True)
class RoundWithout:
    """A round without the site's update."""

    round: int
    weight: int
    """The examples that the site's update counted for; 0 where it took no part."""
    total_weight: int
    """Those of all updates."""
    others: int
    """How many updates are left. With none the model stays as it was before the round."""
    change: float
    """How far the round's model moves without the site, as a share of how far the round moved it."""


@dataclass(frozen=True, kw_only=True)
class Absence:
    """A job without a site."""

    job: str
    site: str
    base: int
    """The version that the kept updates start from. 0: nothing of the job is left out."""
    rounds: tuple[RoundWithout, ...]
    digest: str
    """Of the model that the others' kept updates make of the base."""
    change: float
    """How far that is from the newest version, as a share of how far this is from the base."""


class Without:
    """Recomputes the last rounds of a job without a site."""

    def __init__(self, audit: Audit, recomputed: Collection[int], site: str) -> None:
        """`recomputed`: the versions that were verified by being recomputed."""
        self._audit = audit
        self._site = site
        self._run = _last_run(audit.chain.versions.values(), recomputed)
        if not self._run:
            raise NotFoundError(
                f"the updates of the last round of job {audit.chain.job!r} are not kept, or do not verify; "
                "`fedelta server --keep-updates N` keeps those of the last N rounds"
            )
        if not any(each.client == site for told in self._run for each in told.updates):
            seen = sorted({each.client for told in self._run for each in told.updates})
            raise NotFoundError(f"there is no update of {site!r} in the rounds that are kept, but of {', '.join(seen)}")

    def compute(self, out: Path | None = None) -> Absence:
        """Folds the rounds anew; writes what is left of the newest model to `out`."""
        base = self._audit.chain.versions[self._run[0].number - 1]
        start = Point(self._audit.layout.model(base.digest), self._audit.state_path(base))
        _check_start(start, base)
        rounds, last, left = [], start, start
        for told in self._run:
            version = self._version(told, last)
            rounds.append(self._round(told, last, version.model))
            left = self._follow(left, self._fold(told, left, "left", without=self._site))
            last = self._follow(last, version)
        if out is not None:
            _copy(left.model, out)
        return Absence(
            job=self._audit.chain.job,
            site=self._site,
            base=base.number,
            rounds=tuple(rounds),
            digest=file_digest(left.model).hex(),
            change=_share(distance(left.model, last.model), distance(last.model, start.model)),
        )

    def _round(self, told: Told, base: Point, model: Path) -> RoundWithout:
        others = [each for each in told.updates if each.client != self._site]
        alone = self._fold(told, base, "alone", without=self._site)
        change = _share(distance(alone.model, model), distance(model, base.model))
        self._follow(alone, base)
        total = sum(each.weight for each in told.updates)
        return RoundWithout(
            round=told.number,
            weight=total - sum(each.weight for each in others),
            total_weight=total,
            others=len(others),
            change=change,
        )

    def _follow(self, before: Point, point: Point) -> Point:
        """Goes on with the next files; removes those before them that were made here."""
        for old, new in ((before.model, point.model), (before.state, point.state)):
            if old is not None and old != new and old.parent == self._audit.scratch:
                old.unlink()
        return point

    def _version(self, told: Told, base: Point) -> Point:
        """A version: its own files, or it is folded again where they are not kept."""
        own = Point(self._audit.layout.model(told.digest), self._audit.state_path(told))
        kept = own.model.exists() and (own.state is None or own.state.exists())
        return own if kept else self._fold(told, base, "last")

    def _fold(self, told: Told, base: Point, name: str, without: str = "") -> Point:
        updates = sum(each.client != without for each in told.updates)
        if not updates:
            return base
        least = self._audit.plan.aggregator.least
        if updates < least:
            raise NotFoundError(
                f"without {without!r} round {told.number} has {plural(updates, 'update')}, "
                f"and the job's aggregator needs {least}"
            )
        stem = self._audit.scratch / f"{name}-{told.number}"
        state = stem.with_suffix(".state") if told.state else None
        out = Point(stem.with_suffix(".safetensors"), state)
        self._audit.fold(told, base, out, without=without)
        return out


def _check_start(start: Point, base: Told) -> None:
    """The files that the rounds start from are what was recorded. Raises `StorageError`."""
    for path, digest in ((start.model, base.digest), (start.state, base.state)):
        if path is not None and not (path.exists() and file_digest(path) == digest):
            raise StorageError(f"{path}: it does not belong to version {base.number}, from which the rounds start")


def _last_run(versions: Collection[Told], recomputed: Collection[int]) -> list[Told]:
    """The versions at the end of a job that were all recomputed."""
    found: list[Told] = []
    for told in reversed(list(versions)):
        if told.number not in recomputed:
            break
        found.insert(0, told)
    return found


def _share(part: float, whole: float) -> float:
    """0 where nothing moved at all."""
    return part / whole if whole else 0.0


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise StorageError(f"--out {target}: {error.strerror or error}") from None
