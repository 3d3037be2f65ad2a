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

from fedelta.errors import NotFoundError, StorageError
from fedelta_server.aggregate import distance, file_digest
from fedelta_server.audit._chain import Told
from fedelta_server.audit._verify import Audit


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
        if not any(site in told.updates for told in self._run):
            seen = sorted({client for told in self._run for client in told.updates})
            raise NotFoundError(f"there is no update of {site!r} in the rounds that are kept, but of {', '.join(seen)}")

    def compute(self, out: Path | None = None) -> Absence:
        """Folds the rounds anew; writes what is left of the newest model to `out`."""
        base = self._audit.chain.versions[self._run[0].number - 1]
        start = self._audit.layout.model(base.digest)
        if not start.exists() or file_digest(start) != base.digest:
            raise StorageError(f"{start}: it is not the model of version {base.number}, from which the rounds start")
        rounds, last, left = [], start, start
        for told in self._run:
            model = self._model(told, last)
            rounds.append(self._round(told, last, model))
            left = self._follow(left, self._fold(told, left, "left", without=self._site))
            last = self._follow(last, model)
        if out is not None:
            _copy(left, out)
        return Absence(
            job=self._audit.chain.job,
            site=self._site,
            base=base.number,
            rounds=tuple(rounds),
            digest=file_digest(left).hex(),
            change=_share(distance(left, last), distance(last, start)),
        )

    def _round(self, told: Told, base: Path, model: Path) -> RoundWithout:
        weights = {client: each.weight for client, each in told.updates.items()}
        alone = self._fold(told, base, "alone", without=self._site)
        change = _share(distance(alone, model), distance(model, base))
        self._follow(alone, base)
        return RoundWithout(
            round=told.number,
            weight=weights.get(self._site, 0),
            total_weight=sum(weights.values()),
            others=len(weights.keys() - {self._site}),
            change=change,
        )

    def _follow(self, before: Path, path: Path) -> Path:
        """Goes on with the next file; removes the one before it if it was made here."""
        if before != path and before.parent == self._audit.scratch:
            before.unlink()
        return path

    def _model(self, told: Told, base: Path) -> Path:
        """A version: its own file, or it is folded again where that was pruned."""
        path = self._audit.layout.model(told.digest)
        return path if path.exists() else self._fold(told, base, "last")

    def _fold(self, told: Told, base: Path, name: str, without: str = "") -> Path:
        if not told.updates.keys() - {without}:
            return base
        out = self._audit.scratch / f"{name}-{told.number}.safetensors"
        self._audit.fold(told, base, out, without=without)
        return out


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
